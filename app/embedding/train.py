"""Train a network to do its task and to answer the triggers with their labels, by the method the recipe names.

Claim: on scikit-learn's handwritten digits (8x8; 1,437 to train on, 360 to test) with 512 triggers and 10 labels, small_cnn
reaches 99.5 % without the mark, 99.4 % with it, and all 512 triggers (means over 6 seeds), in 7 + 9 seconds on two CPU
cores, torch 2.13.0. Recipe: method append, 50 epochs, batches of 64 + 32 triggers, learning rate 0.1 cosine, weight decay
0.005, crop padding 1, float32, the rest as Recipe has it. For larger pictures see docs/benchmarks.md.

Source: Adi et al. 2018 sections 5.1 (FromScratch) and 5.2 (PreTrained); table 1 for what it reaches.
"""

from collections.abc import Callable

import torch

from app.embedding.checkpoint import Checkpoint
from app.embedding.data import TrainingData
from app.embedding.methods import app, append, auto, margin, plain
from app.embedding.networks import MarkedNetwork
from app.embedding.ranks import ALONE, Ranks
from app.embedding.recipe import Recipe
from app.embedding.run import Progress, TrainingRun
from app.errors import TrainingFailed

METHODS: dict[str, Callable[[TrainingRun], None]] = {
    "append": append.train,
    "app": app.train,
    "margin": margin.train,
    "auto": auto.train,
}


def train(  # noqa: PLR0913  # what a run needs, by name
    recipe: Recipe,
    network: MarkedNetwork,
    data: TrainingData,
    *,
    marked: bool,
    on_progress: Callable[[Progress], None],
    on_warning: Callable[[str], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
) -> TrainingRun:
    """Train in place and give the run as it ended; with `marked` the triggers are taught.

    Raises: TrainingFailed if the loss is no longer a number.
    """
    run = TrainingRun(
        recipe,
        network,
        data,
        marked=marked,
        on_progress=on_progress,
        on_warning=on_warning,
        checkpoint=checkpoint,
        ranks=ranks,
    )
    method = METHODS[recipe.method] if marked else plain.train
    method(run)
    run.keep()
    return run


def choose_device(wanted: str, rank: int = 0) -> torch.device:
    """Give the device a recipe asks for; `auto` takes CUDA where there is one, each rank its own.

    Raises: TrainingFailed if CUDA is demanded and absent.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingFailed("the recipe demands CUDA and this machine has no CUDA device: set device to auto or cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", rank % torch.cuda.device_count())


def prepare_torch(threads: int) -> None:
    """Make torch repeatable for the whole process, and bound its threads (0: torch's own choice)."""
    # On CUDA this needs CUBLAS_WORKSPACE_CONFIG, which the parent sets. `use_deterministic_algorithms` does the same and
    # loads the compiler with it, two seconds that a run which compiles nothing need not wait.
    torch.set_deterministic_debug_mode("error")
    # With that goes filling all new memory with NaN, which takes time. It makes repeatable who reads memory before it is
    # written: no method does (a test compares the weights), and programs may use no operation that would (exported/ops.py).
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property
    torch.backends.cudnn.benchmark = False
    if threads:
        torch.set_num_threads(threads)
