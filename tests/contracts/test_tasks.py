"""Every discovered task keeps the contract that foveate ships: a new file under tasks/ is tested here."""

from foveate.testing.test_task import (  # noqa: F401 - collected here
    pytestmark,
    test_it_is_trained_loaded_predicted_and_scored,
    test_losses_gradients_and_shapes,
)
