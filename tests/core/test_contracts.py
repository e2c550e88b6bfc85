"""What the contracts of methods and encoders do by themselves."""

from dataclasses import replace

import pytest

from foveate.core.networks import Encoder
from foveate.core.types import FoveateError
from foveate.methods import moco, pcrlv2, region_contrast
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.runtime.registries import METHODS, method_defaults


@pytest.mark.parametrize("name", ["pcrlv2", "models_genesis", "masked"])
def test_a_light_decoder_is_exported_by_no_method(name):
    config = method_defaults({"method.name": name}, 2, "small")
    for light in (True, False):
        net = build_pyramid(UNetConfig(name="unet2d", width=2, levels=3), DecoderConfig(light=light), 2)
        parts = METHODS[name].build(net, config).exported()
        assert list(parts) == (["encoder"] if light else ["encoder", "decoder"])


@pytest.mark.parametrize("name", METHODS.own)
def test_the_config_says_what_the_method_reads_and_exports(name):
    config = method_defaults({"method.name": name}, 3, "small")
    assert config.name == name
    assert set(config.exports) <= {"encoder", "decoder"}
    assert set(config.crops) >= {"global"}


def test_a_method_is_put_around_another_only_if_it_says_so():
    base = moco.Config.preset(3, "small")
    with pytest.raises(FoveateError, match=r"--method pcrlv2 is put around no other"):
        pcrlv2.Config.preset(3, "small").around(base)
    bare = region_contrast.Config.preset(3, "small")
    with pytest.raises(FoveateError, match=r"--method.base is missing"):
        _ = bare.crops
    around = bare.around(replace(base, global_crops=replace(base.global_crops, count=5)))
    assert around.wrapped.crops == around.crops
    assert around.normalisation == base.normalisation


@pytest.mark.parametrize("name", ENCODERS.own)
def test_an_encoder_says_what_its_decoder_normalises_with(name):
    entry = ENCODERS[name]
    config = entry.config(name=name, width=12)
    assert isinstance(entry.build(config, entry.dimensions[0]), Encoder)
    assert config.decoder_norm == ("batch" if name == "swin" else config.norm)
