-- Lists, metrics, templates and form versions. Metrics and form versions have no sync windows: only full listings read
-- them.

CALL create_entity('lists', 'list', ARRAY[
    ['name', 'text', 'Name; NULL if Klaviyo has none.'],
    ['opt_in_process', 'text', 'double_opt_in or single_opt_in; NULL if Klaviyo has none.']
]);

CALL create_entity('templates', 'template', ARRAY[
    ['name', 'text', 'Name.'],
    ['editor_type', 'text', 'The editor: SYSTEM_DRAGGABLE (drag and drop), SIMPLE (rich text), CODE (HTML) or USER_DRAGGABLE (HTML in the drag-and-drop editor).']
]);

CALL create_entity('metrics', 'metric', ARRAY[
    ['name', 'text', 'Name, such as Placed Order. Names change and can repeat: join by id.'],
    ['integration_name', 'text', 'The integration that sends its events, such as Shopify; NULL if Klaviyo has none.'],
    ['integration_category', 'text', 'The kind of integration, such as eCommerce; NULL if Klaviyo has none.']
], false);

CALL create_entity('form_versions', 'form version', ARRAY[
    ['name', 'text', 'Name of the variation.'],
    ['form_id', 'text', 'Id of the form.'],
    ['form_type', 'text', 'banner, embed, flyout, full_page or popup.'],
    ['status', 'text', 'draft or live.'],
    ['ab_test', 'jsonb', 'The A/B test that the version is part of, with its variation_name; NULL without a test.']
], false);
CREATE INDEX ON form_versions (form_id);

-- Lists and templates are off until KLAVIYO_ASSETS names them.
UPDATE assets SET is_on = false WHERE entity IN ('lists', 'templates');
