-- Lists, metrics, templates and form versions. Metrics and form versions have no sync windows: only a full listing.

CREATE PROCEDURE create_entity(name text, noun text, columns text[], windowed boolean) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_objects(name,
        format('The latest state of every %1$s, one row each. A deleted %1$s keeps its row.', noun),
        ARRAY[['id', 'text', format('Klaviyo''s id of the %s.', noun)]] || columns || ARRAY[
            ['created_at', 'timestamptz', 'When it was created, according to Klaviyo.'],
            ['updated_at', 'timestamptz', 'When it was last changed, according to Klaviyo. Archiving does not always change it.'],
            ['deleted_at', 'timestamptz', 'When it was first found deleted in Klaviyo; NULL while it exists.']
        ]);
    EXECUTE format('CREATE INDEX ON %I USING hash (name)', name);
    EXECUTE format('CREATE INDEX ON %I (created_at)', name);
    EXECUTE format('CREATE INDEX ON %I (updated_at)', name);
    EXECUTE format('CREATE INDEX ON %I (deleted_at) WHERE deleted_at IS NOT NULL', name);
    CALL keep_history(name, format(
        'Every state of every %s that a sync observed, including deletions and restorations. States that existed only '
        'between two syncs are missing.', noun));
    EXECUTE format('CREATE INDEX ON %I (valid_from)', name || '_superseded');
    CALL create_as_of(name);
    IF windowed THEN
        CALL register_asset(name, true);
    END IF;
END
$$;
COMMENT ON PROCEDURE create_entity(text, text, text[], boolean) IS 'Creates all relations of an entity: table, earlier states, history, as-of function, indexes, comments. Adds id, the times, raw and observed_at to the columns. An entity without sync windows is not in sync_status.';

CREATE OR REPLACE PROCEDURE create_entity(name text, noun text, columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    CALL create_entity(name, noun, columns, true);
END
$$;

CALL create_entity('lists', 'list', ARRAY[
    ['name', 'text', 'Name; NULL where Klaviyo has none.'],
    ['opt_in_process', 'text', 'double_opt_in or single_opt_in; NULL where Klaviyo has none.']
]);

CALL create_entity('templates', 'template', ARRAY[
    ['name', 'text', 'Name.'],
    ['editor_type', 'text', 'The editor: SYSTEM_DRAGGABLE (drag and drop), SIMPLE (rich text), CODE (HTML) or USER_DRAGGABLE (HTML in the drag-and-drop editor).']
]);

CALL create_entity('metrics', 'metric', ARRAY[
    ['name', 'text', 'Name, such as Placed Order. Names change and can repeat: join by id.'],
    ['integration_name', 'text', 'The integration that sends its events, such as Shopify; NULL where Klaviyo has none.'],
    ['integration_category', 'text', 'The kind of integration, such as eCommerce; NULL where Klaviyo has none.']
], false);

CALL create_entity('form_versions', 'form version', ARRAY[
    ['name', 'text', 'Name of the variation.'],
    ['form_id', 'text', 'The form.'],
    ['form_type', 'text', 'banner, embed, flyout, full_page or popup.'],
    ['status', 'text', 'draft or live.'],
    ['ab_test', 'jsonb', 'The A/B test that the version is part of, with its variation_name; NULL without a test.']
], false);
CREATE INDEX ON form_versions (form_id);

-- Off until KLAVIYO_ASSETS names them.
UPDATE assets SET is_on = false WHERE entity IN ('lists', 'templates');
