"""What the classes of a test module test."""


def covered(module, contract, attribute):
    """Values of an attribute of the subclasses of a contract in a module's namespace."""
    classes = (each for each in module.values() if isinstance(each, type) and each is not contract)
    return {getattr(each, attribute) for each in classes if issubclass(each, contract)}
