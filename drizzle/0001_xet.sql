CREATE TABLE `dedup_chunks` (
	`chunk` text NOT NULL,
	`xorb_id` integer NOT NULL,
	PRIMARY KEY(`chunk`, `xorb_id`)
);
--> statement-breakpoint
CREATE INDEX `dedup_chunks_xorb` ON `dedup_chunks` (`xorb_id`);--> statement-breakpoint
CREATE TABLE `objects` (
	`key` text PRIMARY KEY NOT NULL,
	`state` text NOT NULL,
	`changed_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `objects_state` ON `objects` (`state`,`changed_at`);--> statement-breakpoint
CREATE TABLE `storage_tasks` (
	`kind` text NOT NULL,
	`subject` text NOT NULL,
	`progress` text,
	`attempts` integer DEFAULT 0 NOT NULL,
	`problem` text,
	`due_at` integer NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`kind`, `subject`)
);
--> statement-breakpoint
CREATE INDEX `storage_tasks_due` ON `storage_tasks` (`due_at`);--> statement-breakpoint
CREATE TABLE `xet_files` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`hash` text NOT NULL,
	`scope` text NOT NULL,
	`size` integer NOT NULL,
	`state` text NOT NULL,
	`sha256` text,
	`created_at` integer NOT NULL,
	`idle_since` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `xet_files_hash` ON `xet_files` (`hash`,`scope`) WHERE state = 'registered';--> statement-breakpoint
CREATE INDEX `xet_files_idle` ON `xet_files` (`idle_since`);--> statement-breakpoint
CREATE TABLE `xet_terms` (
	`file_id` integer NOT NULL,
	`offset` integer NOT NULL,
	`length` integer NOT NULL,
	`xorb_id` integer NOT NULL,
	`chunk_start` integer NOT NULL,
	`chunk_end` integer NOT NULL,
	`byte_start` integer NOT NULL,
	`byte_end` integer NOT NULL,
	PRIMARY KEY(`file_id`, `offset`)
);
--> statement-breakpoint
CREATE INDEX `xet_terms_xorb` ON `xet_terms` (`xorb_id`);--> statement-breakpoint
CREATE TABLE `xorbs` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`hash` text NOT NULL,
	`scope` text NOT NULL,
	`uploader_id` text,
	`key` text NOT NULL,
	`packed_size` integer NOT NULL,
	`size` integer NOT NULL,
	`chunks` integer NOT NULL,
	`created_at` integer NOT NULL,
	`idle_since` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `xorbs_key_unique` ON `xorbs` (`key`);--> statement-breakpoint
CREATE UNIQUE INDEX `xorbs_hash` ON `xorbs` (`hash`,`scope`);--> statement-breakpoint
CREATE INDEX `xorbs_idle` ON `xorbs` (`idle_since`);--> statement-breakpoint
ALTER TABLE `contents` ADD `idle_since` integer;--> statement-breakpoint
CREATE INDEX `contents_idle` ON `contents` (`idle_since`);--> statement-breakpoint
ALTER TABLE `repo_contents` ADD `file_id` integer;--> statement-breakpoint
ALTER TABLE `repo_contents` ADD `state` text DEFAULT 'verified' NOT NULL;--> statement-breakpoint
ALTER TABLE `repo_contents` ADD `idle_since` integer;--> statement-breakpoint
CREATE INDEX `repo_contents_file` ON `repo_contents` (`file_id`);--> statement-breakpoint
CREATE INDEX `repo_contents_idle` ON `repo_contents` (`idle_since`);--> statement-breakpoint
INSERT OR IGNORE INTO `objects` (`key`, `state`, `changed_at`) SELECT s.`value` ->> 'key', 'live', c.`created_at` FROM `contents` c, json_each(c.`segments`) s;--> statement-breakpoint
INSERT OR IGNORE INTO `objects` (`key`, `state`, `changed_at`) SELECT `key`, 'live', 0 FROM `upload_parts`;--> statement-breakpoint
INSERT OR IGNORE INTO `storage_tasks` (`kind`, `subject`, `due_at`, `created_at`) SELECT DISTINCT 'ingest', `repo_id` || ' ' || `sha256`, 0, 0 FROM `tree_entries` WHERE `lfs` = 1;
