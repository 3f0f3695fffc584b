#!/usr/bin/env bash
# Writes down what PostgreSQL 15 says of its own catalog, as query/src/pg_catalog/*.tsv: the columns of the relations that
# we have too, the types that may stand in them or in an answer, and the signatures of functions by name.
#   PGHOST=… PGPORT=… PGUSER=… tests/catalog/facts.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
out=query/src/pg_catalog
ask() { psql -X -q -A -t -F $'\t' -v ON_ERROR_STOP=1 "$@"; }
relations="pg_aggregate pg_am pg_attrdef pg_attribute pg_auth_members pg_authid pg_available_extensions pg_cast pg_class
 pg_collation pg_constraint pg_conversion pg_cursors pg_database pg_db_role_setting pg_default_acl pg_depend pg_description
 pg_enum pg_event_trigger pg_extension pg_foreign_data_wrapper pg_foreign_server pg_foreign_table pg_group pg_index
 pg_indexes pg_inherits pg_language pg_largeobject_metadata pg_locks pg_matviews pg_namespace pg_opclass pg_operator
 pg_opfamily pg_partitioned_table pg_policies pg_policy pg_prepared_statements pg_prepared_xacts pg_proc pg_publication
 pg_publication_namespace pg_publication_rel pg_publication_tables pg_range pg_replication_slots pg_rewrite pg_roles
 pg_rules pg_seclabel pg_seclabels pg_sequence pg_sequences pg_settings pg_shadow pg_shdepend pg_shdescription
 pg_stat_activity pg_stat_database pg_stat_replication pg_stat_ssl pg_stat_user_tables pg_statistic_ext pg_stats
 pg_subscription pg_tables pg_tablespace pg_timezone_names pg_transform pg_trigger pg_ts_config pg_ts_dict pg_ts_parser
 pg_ts_template pg_type pg_user pg_user_mapping pg_user_mappings pg_views"
types="bool bytea char name int8 int2 int2vector int4 regproc text oid tid xid cid oidvector json xml pg_node_tree
 point line cidr inet macaddr float4 float8 unknown money aclitem bpchar varchar date time timestamp timestamptz interval timetz bit
 varbit numeric refcursor regprocedure regoper regoperator regclass regtype regrole regnamespace uuid pg_lsn jsonb
 record cstring any anyarray anycompatible anycompatiblearray anycompatiblenonarray void trigger anyelement anynonarray internal xid8
 int4range numrange tsrange tstzrange daterange int8range regcollation"
functions="abs acos array_agg array_append array_cat array_length array_lower array_ndims array_position array_positions
 array_prepend array_remove array_replace array_to_string array_upper ascii asin atan atan2 avg bit_and bit_length
 bit_or bit_xor bool_and bool_or btrim cardinality cbrt ceil char_length character_length chr col_description concat
 concat_ws corr cos cosh cot count covar_pop covar_samp cume_dist current_database current_schema current_schemas
 current_setting date_bin date_part date_trunc degrees dense_rank exp factorial first_value floor format_type gcd
 generate_series generate_subscripts getdatabaseencoding has_any_column_privilege has_column_privilege
 has_database_privilege has_function_privilege has_schema_privilege has_sequence_privilege has_table_privilege
 has_tablespace_privilege has_type_privilege inet_client_addr inet_client_port inet_server_addr inet_server_port
 initcap json_build_object lag last_value lcm lead left length ln log log10 lower lpad ltrim make_date make_time max
 min now nth_value ntile obj_description octet_length overlay parse_ident percent_rank percentile_cont pg_backend_pid
 pg_char_to_encoding pg_client_encoding pg_collation_is_visible pg_conversion_is_visible pg_database_size
 pg_encoding_to_char pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_function_arguments
 pg_get_function_identity_arguments pg_get_function_result pg_get_functiondef pg_get_indexdef pg_get_partkeydef
 pg_get_ruledef pg_get_serial_sequence pg_get_statisticsobjdef_columns pg_get_triggerdef pg_get_userbyid
 pg_get_viewdef pg_has_role pg_indexes_size pg_is_in_recovery pg_is_other_temp_schema pg_my_temp_schema
 pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible pg_relation_is_publishable pg_relation_size
 pg_size_pretty pg_statistics_obj_is_visible pg_table_is_visible pg_table_size pg_tablespace_location
 pg_total_relation_size pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible
 pg_ts_template_is_visible pg_type_is_visible pi position pow power quote_ident quote_literal quote_nullable radians
 random rank regexp_count regexp_instr regexp_like regexp_match regexp_replace regr_slope repeat replace reverse
 right round row_number row_security_active rpad rtrim set_config shobj_description sin sinh split_part sqrt
 starts_with stddev stddev_pop stddev_samp string_agg string_to_array strpos substr substring sum tan tanh to_char
 to_date to_hex to_regclass to_regnamespace to_regproc to_regtype to_timestamp translate trunc txid_current unnest
 upper var_pop var_samp version"
ask -v relations="$relations" >$out/relations.tsv <<'SQL'
SELECT c.relname, c.oid, c.relkind, string_agg(a.attname || ':' || t.typname || CASE WHEN a.attnotnull THEN '!' ELSE '' END, ' ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = 11 AND c.relname = ANY (regexp_split_to_array(:'relations', '\s+'))
GROUP BY c.oid, c.relname, c.relkind ORDER BY c.relname
SQL
ask -v types="$types" >$out/types.tsv <<'SQL'
WITH wanted AS (SELECT oid, typarray FROM pg_type WHERE typname = ANY (regexp_split_to_array(:'types', '\s+')))
SELECT t.oid, typname, format_type(t.oid, NULL), typlen, typbyval, typtype, typcategory, typispreferred, typdelim, typelem, typarray,
  typsubscript::oid, typsubscript, typinput::oid, typinput, typoutput::oid, typoutput, typreceive::oid, typreceive, typsend::oid, typsend,
  typmodin::oid, typmodin, typmodout::oid, typmodout, typanalyze::oid, typanalyze, typalign, typstorage, typcollation, coalesce(obj_description(t.oid, 'pg_type'), '')
FROM pg_type t WHERE typnamespace = 11 AND (oid IN (SELECT oid FROM wanted) OR oid IN (SELECT typarray FROM wanted)) ORDER BY oid
SQL
known="{$(cut -f1 $out/types.tsv | paste -sd,)}"
ask -v functions="$functions" -v known="$known" >$out/procedures.tsv <<'SQL'
SELECT oid, proname, prokind, proretset, provolatile, prorettype, proargtypes, pg_get_function_result(oid), pg_get_function_arguments(oid),
 coalesce(obj_description(oid, 'pg_proc'), '')
FROM pg_proc p WHERE pronamespace = 11 AND proname = ANY (regexp_split_to_array(:'functions', '\s+'))
AND prorettype = ANY (:'known'::oid[]) AND NOT EXISTS (SELECT FROM unnest(proargtypes) of WHERE of <> ALL (:'known'::oid[])) ORDER BY oid
SQL
wc -l $out/*.tsv
