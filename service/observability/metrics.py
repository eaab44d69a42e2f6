"""What the service counts and measures, for Prometheus: `GET /metrics`.

BentoML's own metrics are off: they are labelled with the path as the caller wrote it, which grows without bound and may
hold what no metric may. Labels here come from closed sets: routes, stages, findings, versions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

# BentoML sets this for services of several workers. This one has one, which keeps its own figures; the folder is shared
# by all services of one BENTOML_HOME and emptied whenever one of them starts. prometheus_client reads it at import.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from consilium.domain.diagnosis import Diagnosis, ModelIdentity

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for every counter, which nothing reads
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_PROBABILITIES = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """All metrics of one service process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "consilium_requests", "Requests answered.", ["endpoint", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "consilium_request_seconds",
            "From a request's headers to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "consilium_stage_seconds",
            "Time in one stage: receive, decode, prepare, record of a request; diagnose, explain, similar, search.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.admitted = Gauge(
            "consilium_admitted_requests", "Requests that hold a place in a queue.", ["queue"], registry=registry
        )
        self.queue_depth = Gauge(
            "consilium_queue_depth", "Studies that are prepared and wait for the model.", ["queue"], registry=registry
        )
        self.batch_size = Histogram(
            "consilium_batch_size", "Studies in one batch.", ["queue"], buckets=_SIZES, registry=registry
        )
        self._define_model_metrics(registry)
        self._define_answer_metrics(registry)

    def _define_model_metrics(self, registry: CollectorRegistry) -> None:
        self.model_info = Gauge(
            "consilium_model_info",
            "1 for the version that is loaded in each role.",
            ["role", "name", "version", "manifest_digest"],
            registry=registry,
        )
        self.swaps = Counter(
            "consilium_model_swaps", "Models replaced by a newer version.", ["role"], registry=registry
        )
        self.refusals = Counter(
            "consilium_model_refusals", "Versions that were refused.", ["role", "reason"], registry=registry
        )
        self.registry_reachable = Gauge(
            "consilium_registry_reachable",
            "Whether the registry answered when last asked.",
            ["role"],
            registry=registry,
        )
        self.alias_registered = Gauge(
            "consilium_alias_registered",
            "Whether the registry had the role's alias when it last answered.",
            ["role"],
            registry=registry,
        )

    def _define_answer_metrics(self, registry: CollectorRegistry) -> None:
        self.answers = Counter("consilium_answers", "Studies answered.", ["role", "version"], registry=registry)
        self.worklist_studies = Counter(
            "consilium_worklist_studies",
            "Lines of worklists sent, by the status that the study would have had alone.",
            ["status"],
            registry=registry,
        )
        self.jobs = Gauge(
            "consilium_jobs", "Jobs in the audit log's database, of all processes.", ["state"], registry=registry
        )
        self.job_studies = Counter(
            "consilium_job_studies",
            "Studies of jobs, by the status that each would have had alone.",
            ["status"],
            registry=registry,
        )
        self.referred = Counter(
            "consilium_referred_answers",
            "Answers that refer the study to a human.",
            ["role", "version"],
            registry=registry,
        )
        self.referred_findings = Counter(
            "consilium_referred_findings",
            "Findings referred to a human in answers that do not refer the whole study.",
            ["role", "version", "finding"],
            registry=registry,
        )
        self.out_of_distribution = Counter(
            "consilium_out_of_distribution_answers",
            "Answers of which this part is unlike the training data.",
            ["role", "version", "part"],
            registry=registry,
        )
        self.probability = Histogram(
            "consilium_probability",
            "Calibrated probabilities answered.",
            ["role", "version", "finding"],
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self.shadow_dropped = Counter(
            "consilium_shadow_dropped", "Studies that the shadow model was too busy for.", registry=registry
        )
        self.shadow_failed = Counter(
            "consilium_shadow_failed", "Studies that the shadow model failed on.", registry=registry
        )

    def watch_queue(self, queue: str, admitted: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Read the gauges of `queue` from these whenever they are asked for."""
        self.admitted.labels(queue).set_function(admitted)
        self.queue_depth.labels(queue).set_function(waiting)

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Measures what happens inside as stage `name`."""
        return self.stage_seconds.labels(name).time()

    def loaded(self, role: str, new: ModelIdentity | None, old: ModelIdentity | None) -> None:
        """`new` is loaded in `role`, instead of `old`."""
        if old is not None:
            self.model_info.remove(role, old.name, old.version, old.manifest_digest)
        if new is not None:
            self.model_info.labels(role, new.name, new.version, new.manifest_digest).set(1)
        if old is not None and new is not None:
            self.swaps.labels(role).inc()

    def answered(self, role: str, diagnosis: Diagnosis) -> None:
        """Count one answer: its content, never whom it is about."""
        version = diagnosis.model.version
        self.answers.labels(role, version).inc()
        if diagnosis.refer_reasons:
            self.referred.labels(role, version).inc()
        for part in diagnosis.out_of_distribution:
            if part.out_of_distribution:
                self.out_of_distribution.labels(role, version, part.part).inc()
        for result in diagnosis.findings:
            if result.refer_reasons and not diagnosis.refer_reasons:
                self.referred_findings.labels(role, version, result.finding).inc()
            self.probability.labels(role, version, result.finding).observe(result.probability)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format. Reads files below /proc: not for the event loop."""
        return generate_latest(self.registry)
