"""What a tokenizer makes of a file, before there is a job."""

from typing import Any

from fastapi import APIRouter

from app.body import JsonObject
from app.services import DatabaseDep, ServicesDep
from core.spec import JobSpec, parse_spec
from core.token_report import find_question, prepare_question, token_report

router = APIRouter(prefix="/v1/fine_tuning/tokens", tags=["fine-tuning"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobSpec.model_json_schema()}},
    }
}


@router.post("", openapi_extra=_BODY)
def count_tokens(database: DatabaseDep, services: ServicesDep, body: JsonObject) -> dict[str, Any]:
    """Count a training file's tokens for a model: read, learned, cut, dropped and padded.

    Three rows come as text with their mask. A large file is sampled, with its margin said.
    """
    spec = parse_spec(body)
    prepare_question(spec, services.facts)
    with database.read() as session:
        roots = services.settings.model_roots
        question = find_question(session, spec, roots, services.facts)
    return token_report(question, services.storage, services.tokenizers)
