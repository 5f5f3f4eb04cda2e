"""Differentiation: it turns a graph into more of the same graph. Built only of ops; nothing here computes."""

from .custom_gradient import custom_gradient
from .functions import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .gradients import gradients
from .vmap import vmap

__all__ = ["custom_gradient", "grad", "gradients", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp", "vmap"]
