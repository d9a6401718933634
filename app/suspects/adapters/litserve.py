"""LitServe: a server around the owner's own `decode_request`, `predict` and `encode_response`.

`POST {endpoint}/{route}` with any JSON, answered by any JSON, by habit `{"output": prediction}`.
Options: see `routed`; by default the route `predict` and the field `input`, as numbers.
Source: LitServe documentation, "LitAPI"; observed on litserve 0.2.19.
"""

from app.suspects.adapters.contract import About
from app.suspects.adapters.routed import RoutedAdapter


class LitServe(RoutedAdapter):
    """The adapter `litserve`."""

    about = About(
        serves="LitServe",
        unknown="names of fields: its metadata says nothing of them; whether scores are probabilities or logits",
        tried="live (LitServe 0.2.19)",
    )
    usual_route = "predict"
    usual_name = "input"
    usual_picture = "nested"
