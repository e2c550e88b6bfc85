"""Networks written out plainly, with the names of each family's files: what imports are compared with."""

import torch
from torch import nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
AVERAGE = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
MAXIMUM = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def randomised(net, seed=0):
    """The network in evaluation mode with every parameter and statistic drawn."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator)
                positive = name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight"))
                scale = 1 if tensor.ndim < 2 else (6 / max(1, tensor[0].numel())) ** 0.5
                tensor.copy_(0.5 + drawn if positive else (2 * drawn - 1) * scale)
    return net.eval()


class Block(nn.Module):
    """A basic (2 convolutions) or bottleneck (3) residual block."""

    def __init__(self, n, inputs, planes, stride, expansion, padded, dilation):
        super().__init__()
        conv, norm, outputs = CONV[n], NORM[n], planes * expansion
        three = {"padding": dilation, "dilation": dilation, "bias": False}
        if expansion == 1:
            self.conv1, self.bn1 = conv(inputs, planes, 3, stride, **three), norm(planes)
            self.conv2, self.bn2 = conv(planes, planes, 3, **three), norm(planes)
        else:
            self.conv1, self.bn1 = conv(inputs, planes, 1, bias=False), norm(planes)
            self.conv2, self.bn2 = conv(planes, planes, 3, stride, **three), norm(planes)
            self.conv3, self.bn3 = conv(planes, outputs, 1, bias=False), norm(outputs)
        self.changes, self.stride, self.outputs = stride != 1 or inputs != outputs, stride, outputs
        if self.changes and not padded:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def shortcut(self, x):
        if not self.changes:
            return x
        if hasattr(self, "downsample"):
            return self.downsample(x)
        x = x[(slice(None), slice(None), *[slice(None, None, self.stride)] * (x.ndim - 2))]
        zeros = torch.zeros(x.shape[0], self.outputs - x.shape[1], *x.shape[2:])
        return torch.cat((x, zeros), 1)

    def forward(self, x):
        y = self.conv2(torch.relu(self.bn1(self.conv1(x))))
        y = self.conv3(torch.relu(self.bn2(y))) if hasattr(self, "conv3") else y
        y = (self.bn3 if hasattr(self, "conv3") else self.bn2)(y)
        return torch.relu(y + self.shortcut(x))


class PlainResNet(nn.Module):
    """The common residual network; dilated as MedicalNet's where asked."""

    def __init__(self, n, counts, expansion=1, *, width=8, channels=3, padded=False, dilated=False, fc=0):
        super().__init__()
        self.conv1 = CONV[n](channels, width, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = NORM[n](width), MAXIMUM[n](3, 2, 1)
        self.dilated, inputs = dilated, width
        for i, count in enumerate(counts):
            dilation = {2: 2, 3: 4}.get(i, 1) if dilated else 1
            stride = 1 if i == 0 or dilation > 1 else 2
            blocks = []
            for j in range(count):
                args = (width * 2**i, stride if j == 0 else 1, expansion, padded, dilation)
                blocks.append(Block(n, inputs, *args))
                inputs = width * 2**i * expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        if fc:
            self.fc = nn.Linear(inputs, fc)

    def forward(self, x):
        maps = [torch.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(maps[0])
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
            maps.append(x)
        return [*maps[:2], maps[4]] if self.dilated else maps


class Unit(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs)

    def forward(self, x):
        return torch.relu(self.bn1(self.conv1(x)))


class Down(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.ops = nn.Sequential(Unit(inputs, width), Unit(width, 2 * width))

    def forward(self, x):
        return self.ops(x)


class Up(nn.Module):
    def __init__(self, inputs, skip, heads):
        super().__init__()
        outputs = inputs // 2
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, 2, 2)
        self.ops = nn.Sequential(Unit(inputs + skip, outputs), Unit(outputs, outputs))
        if heads:
            self.bn = nn.BatchNorm1d(outputs)
            self.predictor_head = nn.Sequential(
                nn.Linear(outputs, 2 * outputs), nn.Linear(2 * outputs, outputs)
            )
            self.deep_supervision_head = Unit(outputs, 1)

    def forward(self, x, skip):
        x = self.up_conv(x)
        return self.ops(x if skip is None else torch.cat((x, skip), 1))


class PlainUNet(nn.Module):
    """The 3D U-Net of Models Genesis (skips) and of PCRLv2 (none, and heads)."""

    def __init__(self, width=4, *, skips, heads=False):
        super().__init__()
        self.skips = skips
        self.down_tr64, self.down_tr128 = Down(1, width), Down(2 * width, 2 * width)
        self.down_tr256, self.down_tr512 = Down(4 * width, 4 * width), Down(8 * width, 8 * width)
        self.up_tr256 = Up(16 * width, 8 * width * skips, heads)
        self.up_tr128 = Up(8 * width, 4 * width * skips, heads)
        self.up_tr64 = Up(4 * width, 2 * width * skips, heads)
        self.out_tr = nn.Module()
        self.out_tr.final_conv = nn.Conv3d(2 * width, 1, 1)

    def forward(self, x):
        maps = []
        for down in (self.down_tr64, self.down_tr128, self.down_tr256, self.down_tr512):
            x = down(nn.functional.max_pool3d(x, 2) if maps else x)
            maps.append(x)
        return maps

    def decode(self, maps):
        x = maps[3]
        for up, skip in ((self.up_tr256, 2), (self.up_tr128, 1), (self.up_tr64, 0)):
            x = up(x, maps[skip] if self.skips else None)
        return x


class ConvNorm(nn.Module):
    """A convolution, a norm and perhaps a rectifier, each registered twice as nnU-Net does."""

    def __init__(self, n, inputs, outputs, kernel, stride=1, bias=True, rectified=True):
        super().__init__()
        self.conv = CONV[n](inputs, outputs, kernel, stride, kernel // 2, bias=bias)
        self.norm = INSTANCE[n](outputs, affine=True)
        last = [nn.LeakyReLU(0.01)] if rectified else []
        self.all_modules = nn.Sequential(self.conv, self.norm, *last)

    def forward(self, x):
        return self.all_modules(x)


class ResEncBlock(nn.Module):
    def __init__(self, n, inputs, outputs, stride):
        super().__init__()
        self.conv1 = ConvNorm(n, inputs, outputs, 3, stride)
        self.conv2 = ConvNorm(n, outputs, outputs, 3, rectified=False)
        steps = [AVERAGE[n](stride)] if stride > 1 else []
        steps += [ConvNorm(n, inputs, outputs, 1, bias=False, rectified=False)] if inputs != outputs else []
        self.skip = nn.Sequential(*steps)

    def forward(self, x):
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x), 0.01)


class PlainResEnc(nn.Module):
    """nnU-Net's residual encoder under the names of a whole U-Net."""

    def __init__(self, n, channels=(4, 8, 12, 12), counts=(1, 2, 1, 2)):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.stem = nn.Module()
        self.encoder.stem.convs = nn.Sequential(ConvNorm(n, 1, channels[0], 3))
        stages, inputs = [], channels[0]
        for i, (outputs, count) in enumerate(zip(channels, counts, strict=True)):
            stage = nn.Module()
            blocks = [ResEncBlock(n, inputs, outputs, 2 if i else 1)]
            stage.blocks = nn.Sequential(
                *blocks, *(ResEncBlock(n, outputs, outputs, 1) for _ in range(count - 1))
            )
            stages.append(stage)
            inputs = outputs
        self.encoder.stages = nn.ModuleList(stages)
        self.decoder = nn.Module()
        self.decoder.encoder = self.encoder
        self.decoder.seg_layers = nn.ModuleList([CONV[n](channels[0], 2, 1)])

    def forward(self, x):
        x, maps = self.encoder.stem.convs(x), []
        for stage in self.encoder.stages:
            x = stage.blocks(x)
            maps.append(x)
        return maps
