CREATE TABLE `collection_rounds` (
	`kind` text PRIMARY KEY NOT NULL,
	`position` text,
	`started_at` integer NOT NULL,
	`finished_at` integer
);
--> statement-breakpoint
CREATE INDEX `job_contents_sha256` ON `job_contents` (`sha256`);--> statement-breakpoint
CREATE INDEX `tree_entries_sha256` ON `tree_entries` (`repo_id`,`sha256`) WHERE sha256 is not null;--> statement-breakpoint
CREATE INDEX `xet_files_unregistered` ON `xet_files` (`state`,`created_at`) WHERE state <> 'registered';--> statement-breakpoint
UPDATE `objects` SET `state` = 'live' WHERE `state` = 'staged' AND `key` IN (SELECT `key` FROM `upload_parts`);
