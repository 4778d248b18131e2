"""Changes of a child process, so that commands without options for it take a fraction of a second."""


def small_demo():
    """Let the demonstration run on a few digits and a small network."""
    import functools

    from frostline.pipeline import demo

    every = demo.load_digits

    def few():
        digits = every()
        digits.images, digits.target = digits.images[:60], digits.target[:60]
        return digits

    demo.load_digits = few
    demo.extract = functools.partial(
        demo.extract, backbone="timm:test_resnet", weights="random:0", image_size=32, engine="eager"
    )


def quick_plots():
    """Write an empty picture in place of each plot: drawing takes longer than everything else."""
    import io

    from matplotlib.figure import Figure
    from PIL import Image

    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, format="png")
    Figure.savefig = lambda _figure, file, **_options: file.write(picture.getvalue())


def limit_memory():
    """Let a command that reads a file of any size whole end in a MemoryError, and not in the end of other processes."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))


def sleep_for_ever():
    """Let a command hang."""
    import threading

    threading.Event().wait()
