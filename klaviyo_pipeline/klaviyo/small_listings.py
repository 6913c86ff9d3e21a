"""Lists, metrics, templates and form versions as data.

Lists and templates can be filtered by `updated`, so they have windows. Metrics and form versions can only be listed in
full. `GET /api/metrics` supports no filter by time, no order and no page size; its pages have 200 metrics. Form
versions are listed form by form.
"""

from collections.abc import Mapping

from klaviyo_pipeline.klaviyo import rates
from klaviyo_pipeline.klaviyo.listings import FORMS, Listing, Variant
from klaviyo_pipeline.klaviyo.records import ID, RAW, REQUEST_VALUE, Column, Shape

LISTS = Listing(
    entity="lists",
    path="/api/lists",
    page_size=10,
    time_field="updated",
    created_field="created",
    time_operators=("greater-than", None),
    variants=(Variant("all"),),
    shape=Shape(
        "list",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("opt_in_process", "opt_in_process", "text"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
    ),
    list_endpoint=rates.GET_LISTS,
    get_endpoint=rates.GET_LIST,
    page="https://www.klaviyo.com/lists",
)

TEMPLATES = Listing(
    entity="templates",
    path="/api/templates",
    page_size=10,
    time_field="updated",
    created_field="created",
    variants=(Variant("all"),),
    shape=Shape(
        "template",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("editor_type", "editor_type", "text"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
    ),
    list_endpoint=rates.GET_TEMPLATES,
    get_endpoint=rates.GET_TEMPLATE,
    page="https://www.klaviyo.com/email-templates",
    # The HTML of a template is not requested: it can have hundreds of kilobytes, and every state of it would be stored.
    attributes=("name", "editor_type", "created", "updated"),
)

METRIC_OBJECTS = Listing(
    entity="metrics",
    path="/api/metrics",
    page_size=200,
    page_size_is_fixed=True,
    time_field=None,
    sort=None,
    variants=(Variant("all"),),
    shape=Shape(
        "metric",
        (
            Column("id", ID, "text"),
            Column("name", "name", "text"),
            Column("integration_name", "integration.name", "text"),
            Column("integration_category", "integration.category", "label"),
            Column("created_at", "created", "time"),
            Column("updated_at", "updated", "time"),
            Column("raw", RAW, "json"),
        ),
    ),
    list_endpoint=rates.GET_METRICS,
    get_endpoint=rates.GET_METRIC,
    page="https://www.klaviyo.com/analytics/metrics",
)


def _form_of_version(document: Mapping[str, object]) -> str | None:
    """The id of the form that a version belongs to, from the document of a lookup that includes the form."""
    found: object = document
    for name in ("data", "relationships", "form", "data", "id"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else None


FORM_VERSIONS = Listing(
    entity="form_versions",
    path="/api/forms/{id}/form-versions",
    parent=FORMS,
    page_size=100,
    time_field="updated_at",
    created_field="created_at",
    sort="created_at",
    variants=(Variant("all"),),
    shape=Shape(
        "form-version",
        (
            Column("id", ID, "text"),
            Column("name", "variation_name", "text"),
            Column("form_id", REQUEST_VALUE, "text"),
            Column("form_type", "form_type", "text"),
            Column("status", "status", "text"),
            Column("ab_test", "ab_test", "json"),
            Column("created_at", "created_at", "time"),
            Column("updated_at", "updated_at", "time"),
            Column("raw", RAW, "json"),
        ),
        # In Klaviyo's OpenAPI description, `ab_test` is optional.
        complete=False,
    ),
    list_endpoint=rates.GET_VERSIONS_FOR_FORM,
    get_endpoint=rates.GET_FORM_VERSION,
    page="https://www.klaviyo.com/forms",
    lookup_path="/api/form-versions",
    lookup_include=("form",),
    lookup_request_value=_form_of_version,
)
