"""GPU benchmarks: models written once, over what each rival calls a convolution, a product or a softmax."""
