"""Do pretrained weights get the images they expect?

Wrong channel order or scale does not fail; it trains worse, and says nothing.
"""

import logging

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..backbones.input_fit import CANDIDATES, input_fit
from ..compat.input_format import delivered_format
from .run_config import pretrained_of

# So many of the run's own images are looked at.
IMAGES = 12


class InputCheckHook(Hook):
    """Compare, before the first step, what the first norm was trained on with
    what it receives; a warning names the setting that would fit.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at images of the training data, as its pipeline gives them."""
        model = getattr(runner.model, 'module', runner.model)
        given = delivered_format(getattr(model, 'data_preprocessor', None))
        config = (runner.cfg.get('model') or {}).get('backbone') or {}
        start = pretrained_of(config)
        if start is None or given is None or runner.iter:
            return
        dataset = runner.train_dataloader.dataset
        step = max(1, len(dataset) // IMAGES)
        samples = [dataset[i] for i in range(0, len(dataset), step)][:IMAGES]
        images = [each['inputs'] for each in samples]
        if any(image.ndim != 3 for image in images):
            return
        fit = input_fit(model.backbone, images, (*CANDIDATES, given))
        if fit is None or not is_main_process():
            return
        text = f'{start.checkpoint}: {fit.message(given)}'
        if fit.fits(given):
            runner.logger.info(text)
            return
        options = fit.best.preprocessor_options(
            runner.cfg.model.data_preprocessor
        )
        told = ' '.join(
            f'model.data_preprocessor.{key}="{value}"'
            for key, value in options.items()
        )
        runner.logger.log(
            logging.WARNING, f'{text}: --cfg-options {told}'.replace("'", '')
        )
