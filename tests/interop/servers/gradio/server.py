"""Gradio: a page with a picture and a label, `server.py PORT`."""

import sys

import gradio as gr
from net import CLASSES, digits

network = digits()


def classify(picture):
    """Answer a picture with confidences."""
    return dict(zip(CLASSES, network.probabilities(picture)[0], strict=True))


if __name__ == "__main__":
    page = gr.Interface(
        classify, gr.Image(type="numpy", image_mode="L"), gr.Label(num_top_classes=10), api_name="predict"
    )
    page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), share=False, quiet=True)
