"""Embeddings, galleries and search with Vitrine's models.

Bad input is a `ValueError`, what the system refuses or does not have an `OSError`, and a machine that cannot run models a
`RuntimeError`; their sentences are those of the command line. Long work lets other threads of Python run.
"""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Optional, Union, final

import numpy
from numpy.typing import NDArray

__version__: str

File = Union[str, PathLike[str]]
# uint8 [height, width, 3], red first; whatever numpy.asarray makes one of, Pillow's pictures for example.
Picture = Union[File, NDArray[numpy.uint8], Any]
# A picture, or a picture for each input of the model.
Row = Union[Picture, tuple[Picture, ...]]
# One picture, several as [pictures, height, width, 3], or a list.
Pictures = Union[Picture, Iterable[Row]]
# Floats [rows, dim], or [dim] for one; they are made to unit length.
Vectors = Union[NDArray[numpy.floating[Any]], Sequence[NDArray[numpy.floating[Any]]]]

def unlock(file: File) -> None:
    """Opens encrypted galleries, and makes new ones, with the key of this file from here on, and no others.

    `deploy enroll --key-file` makes such a file. A program has one key.
    """

@final
class Model:
    """A model that embeds pictures.

    `folder` is a bundle with a model.onnx, or a model file. `threads` 0 is one for each core. `provider` is auto, cpu,
    cuda[:DEVICE] or another one of `deploy --provider`. `contract` describes a foreign model that has no contract.
    Without `self_test` its known answers are not computed when it is opened.
    """

    def __new__(
        cls, folder: File, *, threads: int = 0, provider: str = "auto", contract: Optional[File] = None, self_test: bool = True
    ) -> Model: ...
    @property
    def dim(self) -> int:
        """Values of an embedding."""
    @property
    def architecture(self) -> str:
        """The network."""
    @property
    def path(self) -> Path:
        """The model file."""
    @property
    def provider(self) -> str:
        """The execution provider that really runs."""
    @property
    def library(self) -> Optional[Path]:
        """The file of the ONNX Runtime that runs it.

        It is the one that ORT_DYLIB_PATH names; else that of the package onnxruntime, if this Python has it; else the
        one in the system's library path.
        """
    def embed(self, pictures: Pictures, *, batch_size: int = 16, strict: bool = True) -> NDArray[numpy.float32]:
        """Embeddings [pictures, dim] of unit length, equal to those of `deploy embed`.

        A picture that cannot be used is an error. Without `strict` its row is NaN, and a warning says which.
        """

@final
class Match:
    """A template that a search found."""

    @property
    def subject(self) -> Optional[str]:
        """Who it is, where that is known."""
    @property
    def similarity(self) -> float:
        """Cosine similarity, -1 to 1."""
    @property
    def row(self) -> int:
        """Number of the template in the gallery."""
    @property
    def path(self) -> Optional[Path]:
        """Its picture, if it was enrolled from a file."""

@final
class Gallery:
    """People and their templates, in a folder that `deploy` reads and writes, too.

    Each call sees the gallery as it is then. A change locks it; while another program changes it that is a
    `BlockingIOError`, or with `wait` it waits. `len` is the number of templates.
    """

    @staticmethod
    def open(folder: File, model: Model, *, wait: bool = False) -> Gallery:
        """Opens a gallery of the model's embeddings."""
    @staticmethod
    def create(folder: File, model: Model, *, wait: bool = False) -> Gallery:
        """Makes one; a `FileExistsError` if there is one."""
    @property
    def folder(self) -> Path:
        """Its folder."""
    def enrol(self, subject: str, what: Union[Pictures, Vectors]) -> list[int]:
        """Enrols templates of a person, all or none, and returns their numbers."""
    def search(
        self,
        probes: Union[Pictures, Vectors],
        k: int = 10,
        threshold: Optional[float] = None,
        *,
        by: Literal["template", "subject"] = "template",
        fusion: Literal["max", "mean"] = "max",
    ) -> list[list[Match]]:
        """The `k` nearest templates of each probe, best first, and none below the threshold.

        By subject they are people, with the largest similarity of their templates or the mean.
        """
    def remove(self, what: Union[str, int, Sequence[int]]) -> int:
        """Removes a person, or templates by their numbers, and returns how many templates that were.

        No search finds them any more, and their values are overwritten.
        """
    def subjects(self) -> list[str]:
        """Names of all people, in the order in which they were first enrolled."""
    def __len__(self) -> int:
        """Number of templates."""
