"""The student, and while it learns the maps from its features to each expert's."""

from collections.abc import Sequence

from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.utils.annotations import override
from torch import Tensor, nn

from rllib_distill.core.rl_module import NetworkRLModule
from rllib_distill.networks import PerTask


class ActorMimicRLModule(NetworkRLModule, InferenceOnlyAPI):
    """A network over the common action set; its outputs are logits.

    `f_i`, one linear map per task from the student's last hidden layer (after its ReLU) to the expert's, has
    no nonlinearity, and its gradient flows on into the student (Parisotto et al., 2016, equation 3).
    """

    def setup(self) -> None:
        """Builds the student and the maps."""
        super().setup()
        size = self.network.feature_size
        sizes = self.model_config["expert_feature_sizes"]
        self.feature_regressors = PerTask({task: nn.Linear(size, n) for task, n in sizes.items()})

    def predict_expert_features(self, features: Tensor, tasks: Sequence[str]) -> list[Tensor]:
        """`f_i(h)` per task.

        Args:
            features: The student's, `(N, T, B, F)`.
            tasks: The N tasks.

        Returns:
            Per task, `(T, B, F_i)`.
        """
        pairs = zip(tasks, features.unbind(), strict=True)
        return [self.feature_regressors[task](of_task) for task, of_task in pairs]

    @override(InferenceOnlyAPI)
    def get_non_inference_attributes(self) -> list[str]:
        """The maps learn, and do not act."""
        return ["feature_regressors"]
