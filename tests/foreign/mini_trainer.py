"""nnU-Net's trainers for a few steps on a CPU: the same seeds, a first validation before the first step.

nnU-Net finds the classes by $nnUNet_extTrainer; nnUNetv2_train_pretrained of its git version looks in its own
package alone, so that this file is copied there.
"""

import os
from importlib.util import find_spec

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

SEED, STEPS, BATCH = 0, 2, 2


def seed():
    np.random.seed(SEED)
    torch.manual_seed(SEED)


class Mini:
    """In front of one of their trainers."""

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, STEPS, 2

    def initialize(self):
        seed()
        self.configuration_manager.configuration["batch_size"] = BATCH
        super().initialize()

    def perform_actual_validation(self, *_, **__):
        """Of whole images, which takes minutes and says nothing of the weights that were read."""

    def on_train_start(self):
        super().on_train_start()
        self.network.eval()
        seed()
        with torch.no_grad():
            losses = [float(self.validation_step(next(self.dataloader_val))["loss"]) for _ in range(2)]
        self.print_to_log_file(f"first validation: {' '.join(map(repr, losses))}")
        seed()


class ByHand(Mini):
    """The same, with every tensor of the file but those of segmentation layers copied one by one."""

    def initialize(self):
        super().initialize()
        given = torch.load(os.environ["FOVEATE_WEIGHTS"], weights_only=True)["network_weights"]
        own = dict(self.network.state_dict())
        with torch.no_grad():
            for name, tensor in given.items():
                if ".seg_layers." not in name:
                    own[name].copy_(tensor)
        self.print_to_log_file(f"by hand: {len(given)} tensors")


class FoveateMini(Mini, nnUNetTrainer):
    """Starts from what -pretrained_weights names, or from random weights."""


class FoveateByHand(ByHand, nnUNetTrainer):
    """Starts from random weights, and from the file."""


if find_spec("nnunetv2.training.nnUNetTrainer.pretraining"):
    from nnunetv2.training.nnUNetTrainer.pretraining.pretrainedTrainer import PretrainedTrainer

    class FoveatePretrained(Mini, PretrainedTrainer):
        """Starts from the file that the plans name, or from random weights."""

    class FoveatePretrainedByHand(ByHand, PretrainedTrainer):
        """Passes over what reads the file that the plans name."""

        @staticmethod
        def load_pretrained_weights(network, **_):
            return network, False
