"""Label selectors in the engine's form: requirements over ``source.key``."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from cilium_e2e.policy.gotext import quote
from cilium_e2e.policy.kubelabels import name_faults, value_faults
from cilium_e2e.policy.labels import LabelSet, split_key


class Operator(enum.StrEnum):
    """What a requirement asks of a label; ``EQUALS`` is a ``matchLabels`` entry."""

    EQUALS = "="
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True)
class Requirement:
    """One condition on one label.

    Attributes:
        key: ``source.key``.
        operator: an :class:`Operator`, or any other text, which validation refuses.
        values: what the value is compared with.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    @cached_property
    def parts(self) -> tuple[str, str]:
        """Source and key."""
        return split_key(self.key)

    def matches(self, labels: LabelSet) -> bool:
        """Whether an identity meets it."""
        return self.accepts(labels.find(*self.parts))

    def accepts(self, value: str | None) -> bool:
        """Whether a label's value meets it; None stands for no such label."""
        if self.operator in (Operator.EQUALS, Operator.IN):
            return value is not None and value in self.values
        if self.operator == Operator.NOT_IN:
            return value is None or value not in self.values
        if self.operator == Operator.EXISTS:
            return value is not None
        return value is None

    @property
    def usable(self) -> bool:
        """Whether the engine can build it; a selector with one that it cannot build matches nothing."""
        if name_faults(self.key) or any(value_faults(value) for value in self.values):
            return False
        if self.operator in (Operator.IN, Operator.NOT_IN):
            return bool(self.values)
        if self.operator == Operator.EQUALS:
            return True
        return self.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and not self.values

    def faults(self, path: str) -> list[str]:
        """What validation refuses, each with the field's path, as Kubernetes words it."""
        found = []
        if self.operator in (Operator.IN, Operator.NOT_IN):
            if not self.values:
                found.append(
                    f"{path}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                )
        elif self.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST):
            if self.values:
                found.append(
                    f"{path}.values: Forbidden: may not be specified when `operator` is 'Exists' or "
                    "'DoesNotExist'"
                )
        else:
            found.append(
                f"{path}.operator: Invalid value: {quote(self.operator)}: not a valid selector operator"
            )
        found.extend(
            f"{path}.key: Invalid value: {quote(self.key)}: {text}" for text in name_faults(self.key)
        )
        for index, value in enumerate(self.values):
            found.extend(
                f"{path}.values[{index}]: Invalid value: {quote(value)}: {text}"
                for text in value_faults(value)
            )
        return found

    def __str__(self) -> str:
        if self.operator == Operator.EQUALS:
            return f"{self.key}={self.values[0]}"
        if self.values:
            return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        return f"{self.key} {self.operator}"


@dataclass(frozen=True)
class Selector:
    """A conjunction of requirements; an empty one is the wildcard, which selects every identity."""

    requirements: tuple[Requirement, ...] = field(default=())

    @classmethod
    def of(cls, labels: Iterable[tuple[str, str]] = (), expressions: Iterable[Requirement] = ()) -> Selector:
        """From ``matchLabels`` entries and ``matchExpressions``, keys in the engine's form."""
        equal = {key: Requirement(key, Operator.EQUALS, (value,)) for key, value in labels}
        return cls((*equal.values(), *expressions))

    @classmethod
    def reserved(cls, name: str) -> Selector:
        """The identity with a reserved label."""
        return cls.of([(f"reserved.{name}", "")])

    @property
    def wildcard(self) -> bool:
        """Whether it asks for nothing."""
        return not self.requirements

    @cached_property
    def usable(self) -> bool:
        """Whether every requirement can be built."""
        return all(requirement.usable for requirement in self.requirements)

    def matches(self, labels: LabelSet) -> bool:
        """Whether it selects an identity."""
        return self.usable and all(requirement.matches(labels) for requirement in self.requirements)

    def has_key(self, key: str) -> bool:
        """Whether any requirement is about ``key``."""
        return any(requirement.key == key for requirement in self.requirements)

    def has_prefix(self, prefix: str) -> bool:
        """Whether any requirement's key starts with ``prefix``."""
        return any(requirement.key.startswith(prefix) for requirement in self.requirements)

    def with_label(self, key: str, value: str) -> Selector:
        """With a ``matchLabels`` entry more; one with the same key is replaced."""
        kept = tuple(
            requirement
            for requirement in self.requirements
            if not (requirement.key == key and requirement.operator == Operator.EQUALS)
        )
        return Selector((Requirement(key, Operator.EQUALS, (value,)), *kept))

    def with_requirements(self, *more: Requirement) -> Selector:
        """With further requirements."""
        return Selector((*self.requirements, *more))

    def fault(self) -> str:
        """Why validation refuses it, as the agent words it; empty where it does not."""
        found: list[str] = []
        index = 0
        for requirement in self.requirements:
            if requirement.operator == Operator.EQUALS:
                found.extend(
                    f"matchLabels: Invalid value: {quote(requirement.key)}: {text}"
                    for text in name_faults(requirement.key)
                )
                found.extend(
                    f"matchLabels: Invalid value: {quote(requirement.values[0])}: {text}"
                    for text in value_faults(requirement.values[0])
                )
        for requirement in self.requirements:
            if requirement.operator != Operator.EQUALS:
                found.extend(requirement.faults(f"matchExpressions[{index}]"))
                index += 1
        unique = list(dict.fromkeys(found))
        if not unique:
            return ""
        return f"invalid label selector: {unique[0] if len(unique) == 1 else '[' + ', '.join(unique) + ']'}"

    def __str__(self) -> str:
        return ", ".join(str(requirement) for requirement in self.requirements) or "every identity"


WILDCARD = Selector()
