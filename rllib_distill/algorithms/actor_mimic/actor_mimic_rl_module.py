"""The student and, while it learns, the maps from its features to each expert's."""

from collections.abc import Sequence

from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from torch import Tensor, nn
from typing_extensions import override

from rllib_distill.core.rl_module import NetworkRLModule
from rllib_distill.networks import PerTask


class ActorMimicRLModule(NetworkRLModule, InferenceOnlyAPI):
    """A network over the common action set; its outputs are logits.

    `f_i`, one linear map per task from the student's last hidden layer (after its ReLU) to the expert's, has
    no nonlinearity, and its gradient flows on into the student (Parisotto et al., 2016, equation 3).
    """

    @override
    def setup(self) -> None:
        super().setup()
        size = self.network.feature_size
        sizes = self.model_config["expert_feature_sizes"]
        self.feature_regressors = PerTask({task: nn.Linear(size, n) for task, n in sizes.items()})

    def predict_expert_features(self, features: Tensor, tasks: Sequence[str]) -> list[Tensor]:
        """Predicts the features of every task's expert.

        Args:
            features: The student's features, `(N, T, B, F)`.
            tasks: Names of the N tasks.

        Returns:
            `f_i(h)` of each task, `(T, B, F_i)`.
        """
        pairs = zip(tasks, features.unbind(), strict=True)
        return [self.feature_regressors[task](of_task) for task, of_task in pairs]

    @override
    def get_non_inference_attributes(self) -> list[str]:
        return ["feature_regressors"]
