from .backbone_source import BackboneSourceContract as BackboneSourceContract
from .decoder import DecoderContract as DecoderContract
from .engine import EngineContract as EngineContract
from .head import HeadContract as HeadContract
from .images import encode as encode
from .images import photo as photo
from .source import ImageSourceContract as ImageSourceContract
from .source_kind import ImageSourceKindContract as ImageSourceKindContract
