"""The recipes of the reference models: every number of their training."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_bridge.data.descriptions_task import WORDS as DESCRIPTION_WORDS


@dataclass(frozen=True)
class Schedule:
    """One optimisation: AdamW, linear warm-up, cosine decay to zero, clipped gradients."""

    steps: int
    batch: int
    rate: float
    warmup: int
    weight_decay: float = 0.01
    clip: float = 1.0
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Recipe:
    """A LLaVA around SmolLM2: its shape and its two training stages.

    Stage one trains the vision tower on shape and colour labels in the training questions, or of
    each cell of a scene. Stage two freezes it and trains projector and LoRA on the answer tokens,
    through the language model, with several questions packed behind one image.
    """

    seed: int = 0
    entry: int = 0  # first layer with vision tokens in stage two (DeepInsert)
    full_every: int = 0  # period, in steps, of steps with vision in all layers; 0: none
    start: str = ""  # reference model of which tower, projector and LoRA are trained on
    tasks: tuple[str, ...] = ("easy-vqa",)  # one task set; the tower of `start` serves the same one
    stored: str = "bfloat16"  # format of the shipped parts, or `int8` (a scale for every row)
    test_per_image: int | None = None  # test questions; None: all
    image_size: int = 64
    patch_size: int = 8
    vision_width: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    questions_per_image: int = 8
    tower: Schedule = Schedule(
        steps=2600, batch=64, rate=1e-3, warmup=200, weight_decay=0.05, checkpoint_every=200
    )
    adapt: Schedule = Schedule(steps=1500, batch=6, rate=5e-4, warmup=150)

    @property
    def vision_tokens(self) -> int:
        """Number of vision tokens of an image, one for each patch."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def tower_of(self) -> str:
        """The reference model whose tower this one has as it is; "" if its tower is its own."""
        return self.start if self.tasks == ("easy-vqa",) else ""

    def entry_at(self, step: int) -> int:
        """The first layer with vision tokens in a step of stage two."""
        full = self.full_every and step % self.full_every == self.full_every - 1
        return 0 if full else self.entry


@dataclass(frozen=True)
class ScratchRecipe:
    """A small model of another family, trained from scratch on its task sets together.

    Stage one, `see`, trains vision tower, projector and word embeddings, so that the product of a
    vision token with the embedding of a word scores whether the word is true of the token's place.
    Stage two, `learn`, trains the decoder on the answer tokens, with several questions packed
    behind one image.
    """

    family: str  # model type of the transformers class
    seed: int
    start: str = ""  # reference model of this family that is trained on; "": random weights
    tasks: tuple[str, ...] = ("easy-vqa",)  # equally many images of each
    words: tuple[str, ...] = ()  # of its task sets, beside those of every small family
    width: int = 128
    layers: int = 8
    heads: int = 4  # of decoder and tower; half as many for keys and values
    vision_width: int = 96
    vision_layers: int = 4
    questions_per_image: int = 8
    see: Schedule = Schedule(steps=500, batch=32, rate=1e-3, warmup=50, checkpoint_every=100)
    learn: Schedule = Schedule(steps=1500, batch=10, rate=1e-3, warmup=100, checkpoint_every=100)
    stored: str = "int8"
    test_per_image: int | None = None  # test questions; None: all


@dataclass(frozen=True)
class ConnectorRecipe:
    """A model of frozen third-party parts, of which one linear connector is trained.

    The connector is trained on the answer tokens, through the frozen language model, with several
    questions packed behind one photo or recording.
    """

    seed: int
    tower: str  # third-party model
    tasks: tuple[str, ...]
    learn: Schedule
    language_model: str = ""  # folder of a causal language model; "": SmolLM2-135M-Instruct
    wording: str = "plain"  # of the prompt, one of `connector.WORDINGS`
    questions_per_image: int = 3  # or for each recording
    stored: str = "int8"
    test_per_image: int | None = None  # test questions; None: all


@dataclass(frozen=True)
class PhotosRecipe(ConnectorRecipe):
    """A LLaVA whose vision tower is MobileNetV2."""

    tower: str = "mobilenet-v2"
    tasks: tuple[str, ...] = ("fashion-photos",)
    learn: Schedule = Schedule(steps=300, batch=16, rate=1e-3, warmup=20, checkpoint_every=20)
    test_per_image: int | None = 1
    image_size: int = 112
    photos: int = 6000  # training photos, the first of the split

    @property
    def patch_size(self) -> int:
        """Pixels a side for each vision token."""
        return self.image_size // -(-self.image_size // 32)

    @property
    def vision_tokens(self) -> int:
        """Number of vision tokens of a photo, one for each place of the last feature map."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class SpeechRecipe(ConnectorRecipe):
    """A Qwen2-Audio whose audio tower is the encoder of a Whisper.

    The training starts from the transcripts, and goes on with the questions of the task sets.
    """

    tower: str = "whisper-tiny.en"
    tasks: tuple[str, ...] = ("spoken-words",)
    questions_per_image: int = 8
    learn: Schedule = Schedule(steps=200, batch=4, rate=1e-3, warmup=8, checkpoint_every=10)


AnyRecipe = Recipe | ScratchRecipe | PhotosRecipe | SpeechRecipe


def on_smollm2(recipe: AnyRecipe) -> bool:
    """Whether the language model of a recipe is SmolLM2-135M-Instruct."""
    if isinstance(recipe, ConnectorRecipe):
        return not recipe.language_model
    return isinstance(recipe, Recipe)


def may_ship(recipe: AnyRecipe) -> bool:
    """Whether the package may ship the parts: not if the data ask for their own licence."""
    return not isinstance(recipe, SpeechRecipe)


RECIPE = Recipe()
#: Recipe of every reference model by name; `load` builds those whose parts are shipped.
RECIPES: dict[str, AnyRecipe] = {
    "reference": RECIPE,
    "reference-all-linear": Recipe(
        seed=1,
        patch_size=16,
        lora_targets=(*RECIPE.lora_targets, "gate_proj", "up_proj", "down_proj"),
        adapt=Schedule(steps=900, batch=6, rate=5e-4, warmup=100),
        stored="int8",
    ),
    "reference-late-entry": Recipe(
        seed=2,
        entry=10,
        full_every=6,
        start="reference",
        adapt=Schedule(steps=900, batch=4, rate=5e-4, warmup=60),
        stored="int8",
        test_per_image=1,
    ),
    "reference-qwen2.5-vl": ScratchRecipe("qwen2_5_vl", seed=3),
    "reference-smolvlm": ScratchRecipe(
        "smolvlm",
        seed=6,
        tasks=("scenes",),
        see=Schedule(steps=1000, batch=32, rate=1e-3, warmup=50, checkpoint_every=200),
        learn=Schedule(steps=8000, batch=12, rate=1e-3, warmup=200, checkpoint_every=200),
    ),
    "reference-gemma3": ScratchRecipe("gemma3", seed=5),
    "reference-scenes": Recipe(
        seed=1,
        start="reference",
        tasks=("scenes",),
        adapt=Schedule(steps=1200, batch=6, rate=5e-4, warmup=60),
        stored="int8",
        test_per_image=1,
    ),
    "reference-qwen2.5-vl-scenes": ScratchRecipe(
        "qwen2_5_vl",
        seed=4,
        start="reference-qwen2.5-vl",
        tasks=("scenes",),
        learn=Schedule(steps=4000, batch=12, rate=1e-3, warmup=200, checkpoint_every=200),
    ),
    "reference-captions": ScratchRecipe(
        "smolvlm",
        seed=10,
        start="reference-smolvlm",
        tasks=("descriptions",),
        words=DESCRIPTION_WORDS,
        questions_per_image=3,
        see=Schedule(steps=0, batch=32, rate=1e-3, warmup=0),
        learn=Schedule(steps=4500, batch=8, rate=1e-3, warmup=100, checkpoint_every=100),
        test_per_image=1,
    ),
    "photos-smollm2": PhotosRecipe(seed=8),
    "speech-smollm2": SpeechRecipe(seed=9),
}
