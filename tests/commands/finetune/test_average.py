"""A moving average of the weights while fine-tuning."""

import torch
from tests.commands.finetune.test_finetune import keys, labelled  # noqa: F401 (fixtures)

from foveate.commands.finetune import config as finetune_settings
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.semi import trained_from
from foveate.core.types import Progress


def test_the_average_follows_the_weights_and_is_what_is_judged(keys):  # noqa: F811
    config = finetune_settings.SPEC.resolve({}, keys(2, **{"tuning.average": "0.5", "task.classes": "[a=1]"}))
    task = build_task(config)
    trained, judged = trained_from(task, config)
    (bias,) = [p for name, p in task.named_parameters() if name.startswith("heads.") and p.ndim == 1]
    expected = bias.detach().clone()
    for step in range(5):
        with torch.no_grad():
            bias += 1.0
        trained.after_step(Progress(step, 5, 0))
        share = min(0.5, (step + 1) / (step + 10))
        expected = share * expected + (1 - share) * bias.detach()
    (found,) = [p for name, p in judged.named_parameters() if name.startswith("heads.") and p.ndim == 1]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, bias)
    assert not any(p.requires_grad for p in judged.parameters())
