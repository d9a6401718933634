"""BentoML: services of the owner's own making.

`POST {endpoint}/{route}` with the method's arguments as a JSON object, answered by whatever the method returns, bare.
Options: see `routed`; by default the method `predict` and its argument `image`, as a form's file, in which BentoML takes
pictures; `encoding` "png" is for a method whose one argument is declared as the whole body.
Source: BentoML documentation, "Define input and output types"; observed on bentoml 1.4.
"""

from app.suspects.adapters.contract import About
from app.suspects.adapters.routed import RoutedAdapter


class BentoML(RoutedAdapter):
    """The adapter `bentoml`."""

    about = About(
        serves="BentoML services",
        unknown="what the method returns means: it is the owner's own; what stands in /schema.json may lack types",
        tried="live (BentoML 1.4.39)",
    )
    usual_route = "predict"
    usual_name = "image"
    usual_picture = "png_file"
