-- Statistics that the reports show and that have no column of their own: kept, and compared like the others.

ALTER TABLE flow_report ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN flow_report.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of flow_report_restatements.';
ALTER TABLE flow_report_history ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN flow_report_history.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of flow_report_restatements.';

ALTER TABLE campaign_report ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN campaign_report.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of campaign_report_restatements.';
ALTER TABLE campaign_report_history ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN campaign_report_history.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of campaign_report_restatements.';

ALTER TABLE form_report ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN form_report.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of form_report_restatements.';
ALTER TABLE form_report_history ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN form_report_history.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of form_report_restatements.';

ALTER TABLE segment_report ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN segment_report.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of segment_report_restatements.';
ALTER TABLE segment_report_history ADD COLUMN other_statistics jsonb;
COMMENT ON COLUMN segment_report_history.other_statistics IS 'Statistics of the answer that have no column here, by Klaviyo''s name; null where there are none. A change of them is a row of the history, and none of segment_report_restatements.';
