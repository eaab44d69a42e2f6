"""The wire types: what is sent to the service (`requests.py`), what it answers (`answers.py`,
`audit_entry.py`, `job.py`), or both (`worklist.py`).

Every key is known. Of other libraries only pydantic is imported.
"""

from consilium.api.schemas.answers import (
    DeploymentInformation,
    DiagnosisAnswer,
    ExplanationAnswer,
    FindingExplanationAnswer,
    FindingInformation,
    InputInformation,
    LimitInformation,
    ModelInformation,
    ProblemAnswer,
    RefusalAnswer,
    SimilarAnswer,
)
from consilium.api.schemas.audit_entry import FEEDBACK_EXAMPLE, FeedbackAnswer, FeedbackRequest, ResultAnswer
from consilium.api.schemas.job import ExplanationLine, JobAnswer, JobKind, JobState
from consilium.api.schemas.requests import (
    DIAGNOSE_EXAMPLE,
    EXPLAIN_EXAMPLE,
    MAX_CALLER_REFERENCE,
    SIMILAR_EXAMPLE,
    DiagnoseRequest,
    ExplainRequest,
    SimilarRequest,
    parse_request,
)
from consilium.api.schemas.worklist import (
    WORKLIST_EXAMPLE,
    WorklistAnswer,
    WorklistCount,
    WorklistLine,
    WorklistProblem,
    split_worklist,
)

__all__ = [
    "DIAGNOSE_EXAMPLE",
    "EXPLAIN_EXAMPLE",
    "FEEDBACK_EXAMPLE",
    "MAX_CALLER_REFERENCE",
    "SIMILAR_EXAMPLE",
    "WORKLIST_EXAMPLE",
    "DeploymentInformation",
    "DiagnoseRequest",
    "DiagnosisAnswer",
    "ExplainRequest",
    "ExplanationAnswer",
    "ExplanationLine",
    "FeedbackAnswer",
    "FeedbackRequest",
    "FindingExplanationAnswer",
    "FindingInformation",
    "InputInformation",
    "JobAnswer",
    "JobKind",
    "JobState",
    "LimitInformation",
    "ModelInformation",
    "ProblemAnswer",
    "RefusalAnswer",
    "ResultAnswer",
    "SimilarAnswer",
    "SimilarRequest",
    "WorklistAnswer",
    "WorklistCount",
    "WorklistLine",
    "WorklistProblem",
    "parse_request",
    "split_worklist",
]
