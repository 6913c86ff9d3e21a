-- The present state of an object is held once, in its table: `…_superseded` has the earlier ones, and `…_history`, a
-- view, is both of them. Before, every row was written twice, and the open state of the history was a copy to be kept
-- equal.
--
-- Whatever rests on one of the old history tables and is not of this project stops this file, rather than going on
-- reading a table without the present.

ALTER TABLE flows_history RENAME TO flows_history_before;
ALTER TABLE campaigns_history RENAME TO campaigns_history_before;
ALTER TABLE forms_history RENAME TO forms_history_before;
ALTER TABLE segments_history RENAME TO segments_history_before;
ALTER TABLE flow_report_history RENAME TO flow_report_history_before;
ALTER TABLE campaign_report_history RENAME TO campaign_report_history_before;
ALTER TABLE form_report_history RENAME TO form_report_history_before;
ALTER TABLE segment_report_history RENAME TO segment_report_history_before;

DO $$
DECLARE
    name text;
    key text;
    columns text;
    restatements text;
    described record;
BEGIN
    FOREACH name IN ARRAY ARRAY['flows', 'campaigns', 'forms', 'segments',
                                'flow_report', 'campaign_report', 'form_report', 'segment_report'] LOOP
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
        FROM pg_attribute
        WHERE attrelid = to_regclass(name) AND attnum > 0 AND NOT attisdropped AND attname <> 'observed_at';
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY array_position(indkey::int2[], attnum)) INTO key
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
        WHERE indrelid = to_regclass(name) AND indisprimary;

        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING COMMENTS)', name || '_superseded', name || '_history_before');
        EXECUTE format('INSERT INTO %1$I (%2$s, valid_from, valid_to) SELECT %2$s, valid_from, valid_to FROM %3$I WHERE valid_to IS NOT NULL',
            name || '_superseded', columns, name || '_history_before');
        EXECUTE format('ALTER TABLE %1$I ALTER COLUMN valid_to SET NOT NULL, ADD PRIMARY KEY (%2$s, valid_from), ADD CONSTRAINT %3$I CHECK (valid_to > valid_from)',
            name || '_superseded', key, name || '_superseded_span');
        EXECUTE format('COMMENT ON TABLE %I IS %L', name || '_superseded',
            format('What %s showed before, until a later observation replaced or removed it; rows are only added.', name));
        EXECUTE format('COMMENT ON COLUMN %I.valid_to IS %L', name || '_superseded', 'When the next state was first observed, or its absence.');

        EXECUTE format('CREATE VIEW %1$I AS SELECT %2$s, valid_from, valid_to FROM %3$I UNION ALL SELECT %2$s, observed_at, NULL FROM %4$I',
            name || '_history', columns, name || '_superseded', name);
        EXECUTE format('COMMENT ON VIEW %I IS %L', name || '_history',
            obj_description(to_regclass(name || '_history_before'), 'pg_class'));
        FOR described IN
            SELECT attname, col_description(attrelid, attnum) AS comment
            FROM pg_attribute
            WHERE attrelid = to_regclass(name || '_history_before') AND attnum > 0 AND NOT attisdropped
        LOOP
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', name || '_history', described.attname, described.comment);
        END LOOP;

        -- The same text, which now names the view.
        IF to_regclass(name || '_restatements') IS NOT NULL THEN
            restatements := replace(pg_get_viewdef(to_regclass(name || '_restatements')), name || '_history_before', name || '_history');
            EXECUTE format('CREATE OR REPLACE VIEW %I AS %s', name || '_restatements', restatements);
        END IF;
        IF to_regprocedure(name || '_as_of(timestamptz)') IS NOT NULL THEN
            EXECUTE format('CREATE INDEX %I ON %I (valid_from)', name || '_superseded_valid_from_idx', name || '_superseded');
            EXECUTE format('DROP FUNCTION %I(timestamptz)', name || '_as_of');
            EXECUTE format('CREATE FUNCTION %I(moment timestamptz) RETURNS SETOF %I LANGUAGE sql STABLE BEGIN ATOMIC SELECT * FROM %2$I WHERE valid_from <= moment AND (valid_to IS NULL OR valid_to > moment); END',
                name || '_as_of', name || '_history');
            EXECUTE format('COMMENT ON FUNCTION %I(timestamptz) IS %L', name || '_as_of',
                format('Every one of the %s as it was known at that moment, deleted ones with deleted_at.', name));
        END IF;
    END LOOP;
END
$$;

DROP TABLE flows_history_before;
DROP TABLE campaigns_history_before;
DROP TABLE forms_history_before;
DROP TABLE segments_history_before;
DROP TABLE flow_report_history_before;
DROP TABLE campaign_report_history_before;
DROP TABLE form_report_history_before;
DROP TABLE segment_report_history_before;
