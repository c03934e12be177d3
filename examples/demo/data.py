"""Chat examples that teach a model to answer in JSON, from the chatterbot corpus.

    python examples/demo/data.py train.jsonl

The user asks something, and the assistant answers {"topic": "...", "reply": "..."} though nobody
tells it to. A few questions are held out: HELD_OUT is for looking, and never in the training file.
"""

import argparse
import importlib.metadata
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

PACKAGE = "chatterbot-corpus"
TOPICS = {
    "ai": "robots",
    "botprofile": "robots",
    "computers": "computers",
    "emotion": "feelings",
    "food": "food",
    "literature": "books",
    "money": "money",
    "science": "science",
    "sports": "sports",
    "tech_support": "computers",
    "trivia": "trivia",
}
"""Files of the corpus, and the topics that they become here."""

HELD_OUT = (
    "What is your favorite food?",
    "Who wrote Frankenstein?",
    "Do you play baseball?",
    "My printer is not printing.",
    "What is the largest planet in our solar system?",
    "What is chemistry?",
    "How much money do you have?",
    "Do you ever get lonely?",
    "Are you sentient?",
    "Who invented computers?",
    "What is the smallest ocean in the world?",
    "What operating systems do you run on?",
)
SHOWN = ("What is chemistry?", "Do you ever get lonely?", "My printer is not printing.")
"""The three of them that the demo shows before and after."""

MAX_QUESTION, MAX_REPLY = 90, 100
MAX_PER_TOPIC = 60
UNFIT = re.compile(
    r"\b(baseball the|beer|bend over|boyfriend|breathe|clone|communist|dead|die[sd]?|do not|drunk"
    r"|fakie|fascist|go|gravitation|h2o|hal|hate|hitler|illuminati|intoxicated|killed|mate|murder"
    r"|shot|sinsemillia|stupid|suicide|testicles|the same)\b",
    re.IGNORECASE,
)
"""What the corpus has and a demo need not: rude rows, and those that are no whole question."""


class CorpusUnavailable(Exception):
    """The corpus is not installed; the text says what to do."""


def write_examples(path: Path, *, seed: int = 0) -> int:
    """Write the training file, shuffled by `seed`, and return how many examples it holds."""
    examples = list(_examples(_corpus_folder()))
    random.Random(seed).shuffle(examples)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in examples)
    path.write_text("".join(lines), encoding="utf-8")
    return len(examples)


def is_good_answer(text: str) -> bool:
    """Whether a model's answer is what was trained: one JSON object with a topic and a reply."""
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(answer, dict)
        and answer.keys() == {"topic", "reply"}
        and all(isinstance(value, str) and value for value in answer.values())
    )


def _corpus_folder() -> Path:
    """The English files; the package itself need not be importable."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.match("data/english/trivia.yml"):
            return Path(str(file.locate())).parent
    raise CorpusUnavailable(
        f"The package {PACKAGE} is not installed. It brings the questions: "
        f"pip install --no-deps {PACKAGE}"
    )


def _examples(folder: Path) -> Iterator[list[dict[str, str]]]:
    seen = {_key(question) for question in HELD_OUT}
    left = dict.fromkeys(TOPICS.values(), MAX_PER_TOPIC)
    for name, topic in TOPICS.items():
        for question, reply in _pairs(folder / f"{name}.yml"):
            if left[topic] and _key(question) not in seen and _is_fit(question, reply):
                seen.add(_key(question))
                left[topic] -= 1
                yield _chat(question, {"topic": topic, "reply": reply})


def _chat(question: str, answer: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)},
    ]


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The first question and answer of each conversation, in whole sentences."""
    for talk in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
        if len(talk) >= 2 and all(isinstance(turn, str) for turn in talk[:2]):
            yield _sentence(talk[0], is_question=True), _sentence(talk[1])


def _sentence(text: str, *, is_question: bool = False) -> str:
    text = " ".join(text.replace("\u2019", "'").replace("\u2018", "'").split())
    if text.isupper():
        text = text.lower()
    text = re.sub(r"\bi\b", "I", text[:1].upper() + text[1:])
    if text[-1:] in ".?!":
        return text
    asks = re.match(
        r"(what|who|why|how|when|where|which|are|is|do|does|can|will|have)\b", text, re.I
    )
    return text + ("?" if is_question and asks else ".")


def _is_fit(question: str, reply: str) -> bool:
    """Short, harmless, and an answer: some replies of the corpus are other questions."""
    return (
        len(question) <= MAX_QUESTION
        and len(question.split()) > 2
        and 3 < len(reply) <= MAX_REPLY
        and question.isascii()
        and reply.isascii()
        and not reply.endswith("?")
        and not reply.lower().startswith("what ")
        and not UNFIT.search(f"{question} {reply}")
    )


def _key(question: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", question.lower()))


def main() -> None:
    """Write the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    print(f"{write_examples(path)} examples in {path}")


if __name__ == "__main__":
    main()
