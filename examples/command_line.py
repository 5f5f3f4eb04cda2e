"""What all examples have on their command lines: the device that they compute on."""

import argparse
import os


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What the user has asked for. Sessions compute on the device that he names, as they name none themselves."""
    parser.add_argument("--device", help="what to compute on: cpu:0, cuda:0, or several, as in cpu:0,cpu:1")
    parsed = parser.parse_args()
    device = vars(parsed).pop("device")
    if device is not None:
        os.environ["FLOWGRAPH_DEVICES"] = device
    return parsed
