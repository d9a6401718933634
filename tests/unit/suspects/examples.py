"""Ways to frame a request, and the interfaces that name them."""

from app.protocol.interface import Interface


def generic(placeholder, path="result", result="scores"):
    return {"template": {"data": [{"x": {"$input": placeholder}}], "n": 1, "on": True}, "path": path, "result": result}


FRAMES = [
    ("kserve_v1", {"model": "m"}),
    ("oip_v2", {"model": "m"}),
    ("oip_v2", {"model": "m", "version": "2", "input_name": "x", "output_name": "p"}),
    ("generic_json", generic("floats_nested")),
    ("generic_json", generic("floats_flat")),
]


def interface(name, options, by="index"):
    return Interface(adapter=name, options=options, preprocessing={}, label_map={"by": by})
