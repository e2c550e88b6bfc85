"""Every discovered method keeps the contract that foveate ships: a new file under methods/ is tested here."""

from foveate.testing.test_method import (  # noqa: F401 - collected here
    pytestmark,
    test_every_weight_has_a_gradient_at_every_step,
    test_finite_and_every_exported_parameter_gets_a_gradient,
    test_health_is_measured_and_changes_nothing,
    test_input_is_not_modified_and_a_step_repeats,
    test_resume_is_bit_equal,
)
