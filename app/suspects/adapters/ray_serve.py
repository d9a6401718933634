"""Ray Serve: deployments that read the HTTP request themselves.

`POST {endpoint}[/{route}]`, answered by whatever the deployment returns.
Options: see `routed`; by default the endpoint itself and the picture as the whole body, as Ray's own examples of image
classifiers take it.
Source: Ray documentation, "Set Up FastAPI and HTTP" and "Serve an image classifier"; observed on ray 2.60.
"""

from app.suspects.adapters.contract import About
from app.suspects.adapters.routed import RoutedAdapter


class RayServe(RoutedAdapter):
    """The adapter `ray_serve`."""

    about = About(
        serves="Ray Serve",
        unknown="everything about the request and the answer: both are the owner's own",
        tried="live (Ray 2.60.0)",
    )
    usual_route = ""
    usual_name = "image"
    usual_picture = "png"
