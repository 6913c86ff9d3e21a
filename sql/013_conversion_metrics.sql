-- Several conversion metrics: the rows of reports have the metric in their key, so that a table has rows of each metric.
-- The ledger has the windows of the first metric under the report's name, as before, and those of each further metric
-- under the name, a colon and the metric's id, such as flow_report:WXyz12.

DO $$
DECLARE
    report text;
    relation text;
    key text[];
    statistics text[];
    described CONSTANT text := 'The conversion metric of the request, a part of the key. With several metrics, each has '
        'its own rows: first_metrics has the metric of the metrics tables.';
BEGIN
    FOR report IN
        SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attname = 'conversion_metric_id'
            -- The account's own tables of a similar name are left alone.
            AND regexp_replace(relname, '_undated$', '') IN (SELECT entity FROM assets)
            AND (relname LIKE '%\_report' OR relname LIKE '%\_report\_%')
        ORDER BY relname
    LOOP
        FOREACH relation IN ARRAY ARRAY[report, report || '_superseded'] LOOP
            CONTINUE WHEN to_regclass(quote_ident(relation)) IS NULL;
            key := (
                SELECT array_agg(attname::text ORDER BY array_position(indkey::int2[], attnum))
                FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
                WHERE indrelid = to_regclass(quote_ident(relation)) AND indisprimary
            );
            EXECUTE format('UPDATE %I SET conversion_metric_id = '''' WHERE conversion_metric_id IS NULL', relation);
            EXECUTE format('ALTER TABLE %1$I DROP CONSTRAINT %2$I, ALTER conversion_metric_id SET NOT NULL, '
                'ADD CONSTRAINT %2$I PRIMARY KEY (%3$s)', relation,
                (SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(relation)) AND contype = 'p'),
                (SELECT string_agg(quote_ident(part), ', ' ORDER BY place) FROM unnest(
                    array_remove(key, 'valid_from') || 'conversion_metric_id'::text
                    || CASE WHEN 'valid_from' = ANY (key) THEN ARRAY['valid_from'] ELSE '{}' END
                ) WITH ORDINALITY AS parts (part, place)));
            CALL comment_on_columns(relation, ARRAY[['conversion_metric_id', described]]);
        END LOOP;
        CONTINUE WHEN to_regclass(quote_ident(report || '_restatements')) IS NULL;
        CALL comment_on_columns(report || '_history', ARRAY[['conversion_metric_id', described]]);
        -- The key of a restatement, which for a period includes the days that it covers.
        SELECT array_agg(attname::text ORDER BY attnum) INTO key
        FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(report || '_restatements')) AND attnum > 0
            AND attname NOT IN ('restated_at', 'statistic', 'earlier_value', 'later_value');
        SELECT array_agg(ARRAY[attname::text] ORDER BY attnum) INTO statistics
        FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(report)) AND atttypid = 'numeric'::regtype AND attnum > 0 AND NOT attisdropped;
        EXECUTE format('DROP VIEW %I', report || '_restatements');
        CALL create_restatements(report, array_to_string(key || 'conversion_metric_id'::text, ', '), statistics);
    END LOOP;
END
$$;

CALL comment_on_columns('sync_windows', ARRAY[
    ['entity', 'The asset''s table, such as flows or flow_report. For a further conversion metric of a report: the table, a colon and the metric''s id.'],
    ['conversion_metric_id', 'Reports: the conversion metric of the request. Metrics tables: NULL.']
]);
CALL comment_on_columns('account', ARRAY[
    ['conversion_metric_id', 'The conversion metric of the latest report requests: the first one, if several are set.']
]);

CREATE VIEW first_metrics AS
SELECT DISTINCT ON (entity) entity, conversion_metric_id
FROM sync_windows
WHERE status = 'synced' AND conversion_metric_id IS NOT NULL AND entity NOT LIKE '%:%'
ORDER BY entity, window_start DESC;
CALL comment_on_view('first_metrics', 'The conversion metric of each report that its metrics table is computed from: the first one, if several are set. Join it where you sum rows of a report, so that you count one metric.', ARRAY[
    ['entity', 'The report''s table.'],
    ['conversion_metric_id', 'The metric''s id.']
]);
