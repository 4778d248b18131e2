from .backbones.backbone import Backbone as Backbone
from .backbones.catalog import list_backbones as list_backbones
from .backbones.loader import load_backbone as load_backbone
from .cache.reader import FeatureCache as FeatureCache
from .errors import FeaturesError as FeaturesError
from .spec import FeatureSpec as FeatureSpec
from .spec import Layer as Layer
from .spec import Transform as Transform
