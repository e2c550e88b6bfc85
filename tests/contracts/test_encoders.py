"""Every encoder keeps the contract that foveate ships."""

from foveate.testing.test_encoder import (  # noqa: F401 - collected here
    pytestmark,
    test_every_weight_of_an_encoder_has_a_gradient,
    test_maps_are_as_the_encoder_says,
)
