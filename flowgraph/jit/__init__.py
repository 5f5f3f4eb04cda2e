"""Compiled kernels: fused loops, convolutions and pooling as machine code, made by LLVM.

values     what a loop computes for one element, as a graph of primitives
functions  exp, log and their kin, built of primitives
text       what texts are written with
arguments  how a kernel takes the arrays that Python gives it
loops      a loop as the text of an LLVM module
arrays     what the texts of kernels over whole arrays share
draws      random bits
cuda       a loop as the text of CUDA kernels: cuda_values its numbers, cuda_bundles its elements, cuda_rows its rows
gpu        such kernels, compiled and called by CuPy
lazy       conv, cuda, draws, pool, products and windows, loaded when they are first named
windows    windows that move over images, and what the texts of kernels for them share
conv       convolution and its gradients
pool       pooling and its gradients
products   products of matrices
row_products  those of a matrix and a vector, within a loop over the rows
ufuncs     NumPy's inner loops, and ufuncs with others in their place
llvm       from text to machine code, with a cache on disk
kernels    machine code as functions that Python calls
tape       many small kernels as one such function, and follow: the texts of what goes through a tape

Knows arrays as memory; knows nothing of graphs, plans and threads.
"""
