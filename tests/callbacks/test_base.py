import lightning.pytorch as lightning_pytorch
import pytorch_lightning

from bsopt.callbacks._base import Callback


def test_a_callback_is_accepted_by_both_lightning_packages() -> None:
    class Silent(Callback):
        pass

    for package in (pytorch_lightning, lightning_pytorch):
        trainer = package.Trainer(callbacks=[Silent()], logger=False, accelerator="cpu", enable_checkpointing=False)
        assert isinstance(trainer.callbacks[0], package.Callback)
