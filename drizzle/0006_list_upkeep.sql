-- What lists search and sort by is kept by triggers, whoever changes a name or an index row.
-- The array of `hex(zeroblob(n))` has an element for each position at which three characters begin.
CREATE TRIGGER `repo_grams_of_new` AFTER INSERT ON `repos` BEGIN
  INSERT OR IGNORE INTO repo_grams (repo_id, gram)
    SELECT new.id, substr(o.name_key || '/' || new.name_key, n.key + 1, 3)
      FROM accounts o, json_each('[' || rtrim(replace(hex(zeroblob(length(o.name_key) + length(new.name_key) - 1)), '00', '0,'), ',') || ']') n
      WHERE o.id = new.owner_id;
END;
--> statement-breakpoint
CREATE TRIGGER `repo_grams_of_renamed` AFTER UPDATE OF `owner_id`, `name_key` ON `repos` BEGIN
  DELETE FROM repo_grams WHERE repo_id = new.id;
  INSERT OR IGNORE INTO repo_grams (repo_id, gram)
    SELECT new.id, substr(o.name_key || '/' || new.name_key, n.key + 1, 3)
      FROM accounts o, json_each('[' || rtrim(replace(hex(zeroblob(length(o.name_key) + length(new.name_key) - 1)), '00', '0,'), ',') || ']') n
      WHERE o.id = new.owner_id;
END;
--> statement-breakpoint
CREATE TRIGGER `repo_sizes_of_new` AFTER INSERT ON `repo_index` BEGIN
  UPDATE repos SET parameters = coalesce(new.parameters, 0), used_storage = new.used_storage WHERE id = new.repo_id;
END;
--> statement-breakpoint
CREATE TRIGGER `repo_sizes_of_changed` AFTER UPDATE OF `parameters`, `used_storage` ON `repo_index` BEGIN
  UPDATE repos SET parameters = coalesce(new.parameters, 0), used_storage = new.used_storage WHERE id = new.repo_id;
END;
--> statement-breakpoint
INSERT OR IGNORE INTO repo_grams (repo_id, gram)
  SELECT r.id, substr(o.name_key || '/' || r.name_key, n.key + 1, 3)
    FROM repos r JOIN accounts o ON o.id = r.owner_id,
      json_each('[' || rtrim(replace(hex(zeroblob(length(o.name_key) + length(r.name_key) - 1)), '00', '0,'), ',') || ']') n;
