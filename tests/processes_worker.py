"""Started by `test_processes`, as one of several processes or alone: a few steps, and what became of the weights."""

import sys

import torch
from safetensors.torch import save_file

from dpsims.config import override
from dpsims.data.prepared import load_prepared
from dpsims.presets import preset
from dpsims.processes import launched
from dpsims.training import Trainer

data, out, steps, kind, *settings = sys.argv[1:]
config = override(preset("tiny"), [f"data.path={data}", "train.bf16=false", *settings])
gradients = {}


def keep(name, network):
    if any(key.startswith(f"gradient of {name}") for key in gradients):
        return  # of the first step alone
    for key, p in network.named_parameters():
        if p.grad is not None:
            gradients[f"gradient of {name} {key}"] = p.grad.clone()


def work(trainer):
    trainer.fit_conditioning(progress=False)
    trainer.g_optimiser.register_step_pre_hook(lambda *_: keep("G", trainer.generator))
    trainer.d_optimiser.register_step_pre_hook(lambda *_: keep("D", trainer.discriminator))
    for step in range(int(steps)):
        log = trainer.step(step)
    state = {
        f"{name} {key}": value
        for name, network in (("G", trainer.generator), ("D", trainer.discriminator), ("E", trainer.ema))
        for key, value in network.state_dict().items()
    }
    average = trainer.processes.average(log)
    state |= {f"log {key}": torch.tensor(v, dtype=torch.float64) for key, v in average.items()}
    everything = {key: value.contiguous() for key, value in (state | gradients).items()}
    save_file(everything, f"{out}.{trainer.processes.rank}.safetensors")


with launched():
    work(Trainer(config, load_prepared(data), torch.float64 if kind == "float64" else torch.float32))
