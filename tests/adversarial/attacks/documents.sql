-- arrow
SELECT profile -> 'key' FROM people;

-- arrow text
SELECT profile ->> 'key' FROM people;

-- path
SELECT profile #>> '{deep,0}' FROM people;

-- subscript
SELECT profile['key'] FROM people;

-- jsonb text
SELECT profile::text FROM people;

-- jsonb_pretty
SELECT jsonb_pretty(profile) FROM people;

-- jsonb_set
SELECT jsonb_set(profile, '{x}', '1') FROM people;

-- jsonb concat
SELECT profile || '{}' FROM people;

-- jsonb minus
SELECT profile - 'none' FROM people;

-- jsonb_each
SELECT (jsonb_each_text(profile)).value FROM people;

-- jsonb_path_query
SELECT jsonb_path_query(profile, '$.deep[*]') FROM people;

-- jsonb_path_exists
SELECT id FROM people WHERE jsonb_path_exists(profile, '$.key ? (@ starts with "Q" || @ starts with "Z" || @ starts with "K")');

-- jsonb_to_record
SELECT r.key FROM people, jsonb_to_record(profile) AS r (key text);

-- jsonb_populate_record
SELECT (jsonb_populate_record(NULL::place, jsonb_build_object('street', ssn))).street FROM people;

-- json_build_object
SELECT json_build_object('a', ssn) FROM people;

-- json_build_array
SELECT json_build_array(ssn) FROM people;

-- jsonb_build_object key
SELECT jsonb_build_object(coalesce(ssn, 'x'), 1) FROM people;

-- json constructor
SELECT JSON_OBJECT('a' VALUE ssn) FROM people;

-- json array constructor
SELECT JSON_ARRAY(ssn, card) FROM people;

-- json_arrayagg
SELECT JSON_ARRAYAGG(ssn) FROM people;

-- json_objectagg
SELECT JSON_OBJECTAGG(id VALUE ssn) FROM people;

-- json_value
SELECT JSON_VALUE(profile, '$.key') FROM people;

-- json_query
SELECT JSON_QUERY(profile, '$.deep') FROM people;

-- json_exists
SELECT JSON_EXISTS(profile, '$ ? (@.key starts with "Q")'), profile::text < '{"key": "M"' FROM people;

-- json_scalar
SELECT JSON_SCALAR(ssn) FROM people;

-- json_serialize
SELECT convert_from(JSON_SERIALIZE(profile::json RETURNING bytea), 'UTF8') FROM people;

-- json is
SELECT ssn IS JSON, ('"' || ssn || '"')::json FROM people;

-- json table with passing
SELECT t.* FROM people, JSON_TABLE('{"a": 1}'::jsonb, '$' PASSING ssn AS s COLUMNS (a text PATH '$s')) t;

-- json default
SELECT JSON_VALUE(jsonb_build_object('a', ssn), '$.a' DEFAULT 'x' ON EMPTY) FROM people;

-- to_json
SELECT to_json(ssn) FROM people;

-- array_to_json
SELECT array_to_json(tags) FROM people;

-- json_object from arrays
SELECT json_object(ARRAY['a'], ARRAY[ssn]) FROM people;

-- json_strip_nulls
SELECT jsonb_strip_nulls(profile) FROM people;

-- json key exists
SELECT id FROM people, letters WHERE profile ? 'key' AND profile ->> 'key' LIKE c || '%' AND c ~ '[A-K]';

-- xmlelement attribute
--! dud: this server is built without XML
SELECT xmlelement(name a, xmlattributes(ssn AS v)) FROM people;

-- xmlconcat
--! dud: this server is built without XML
SELECT xmlconcat(xmlelement(name a, ssn)) FROM people;

-- xmlpi
--! dud: this server is built without XML
SELECT xmlpi(name php, ssn) FROM people;

-- xmlserialize
--! dud: this server is built without XML
SELECT xmlserialize(CONTENT xmlelement(name a, ssn) AS text) FROM people;

-- xmlcomment
--! dud: this server is built without XML
SELECT xmlcomment(ssn) FROM people;

-- xpath
--! dud: this server is built without XML
SELECT xpath('/a/text()', xmlelement(name a, ssn)) FROM people;

-- xmlexists
--! dud: this server is built without XML
SELECT id FROM people WHERE xmlexists('//a[starts-with(., "Q") or starts-with(., "Z")]' PASSING xmlelement(name a, ssn));

-- array_agg nested
SELECT array_agg(ARRAY[ssn, card]) FROM people WHERE ssn IS NOT NULL;

-- array concatenation
SELECT tags || ARRAY['x'] FROM people;

-- array append
SELECT array_append(NULL::text[], ssn) FROM people;

-- array position
SELECT array_position(ARRAY['A', 'B', 'F', 'G', 'H', 'J', 'K', 'M', 'P', 'Q', 'V', 'W', 'X', 'Z', 'Y'], left(ssn, 1)) FROM people;

-- array replace
SELECT array_replace(tags, 'x', 'y') FROM people;

-- array upper
SELECT array_upper(tags, 1), tags > ARRAY['M'] FROM people;

-- multirange
SELECT datemultirange(daterange(born, born, '[]')) FROM people;

-- composite cast
SELECT ROW(ssn, card)::place FROM people;

-- composite comparison
SELECT id FROM people WHERE address > ROW('M', 'M')::place;

-- composite field predicate
SELECT id FROM people WHERE (address).street > 'M';

-- composite to json
SELECT to_json(address) FROM people;

-- composite array
SELECT ARRAY[address] FROM people;

-- enum comparison
SELECT id FROM people WHERE feeling > 'zvxmood';

-- enum first
SELECT enum_range(feeling, feeling) FROM people;

-- network functions
SELECT family(home), masklen(home), network(set_masklen(home, 8)) FROM people;

-- bytea comparison
SELECT id FROM people WHERE secret > '\xc0';

-- bytea concatenation
SELECT secret || '\x00' FROM people;

-- bit count
SELECT bit_count(secret), get_bit(secret, 3) FROM people;

-- uuid comparison
SELECT id FROM people WHERE token > '80000000-0000-0000-0000-000000000000';

-- uuid version
SELECT uuid_extract_version(token), token::text > '8' FROM people;

-- timestamp arithmetic
SELECT seen - interval '1 day' FROM people;

-- timestamp bucket
SELECT date_bin('1 day', seen, '2000-01-01') FROM people;

-- interval to parts
SELECT justify_days(seen - timestamptz '2000-01-01') FROM people;

-- float bits
SELECT float8send(score), int8send(account) FROM people;

-- numeric functions
SELECT trunc(salary), scale(salary), log(salary) FROM people;

-- domain cast
SELECT code::text::varchar FROM people;

-- money cast
SELECT salary::money FROM people;
