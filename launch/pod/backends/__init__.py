"""Who rents out the slices, behind one interface."""

from collections.abc import Callable

from launch.pod.backends.base import Backend, SliceState
from launch.pod.backends.gce import ComputeEngine
from launch.pod.backends.gke import Kubernetes
from launch.pod.backends.qr import QueuedResources
from launch.pod.backends.xpk import XpkKubernetes
from launch.pod.request import Request

__all__ = ["Backend", "SliceState", "find_backend"]


def find_backend(request: Request) -> Backend:
    """Returns the backend that a request names."""
    backends: dict[str, Callable[[Request], Backend]] = {
        "qr": QueuedResources,
        "gce": ComputeEngine,
        "gke": XpkKubernetes if request.xpk else Kubernetes,
    }
    return backends[request.backend](request)
