CREATE TABLE `access_requests` (
	`repo_id` text NOT NULL,
	`account_id` text NOT NULL,
	`status` text NOT NULL,
	`fields` text,
	`created_at` integer NOT NULL,
	`decided_at` integer,
	`decided_by` text,
	`reason` text,
	PRIMARY KEY(`repo_id`, `account_id`)
);
--> statement-breakpoint
CREATE INDEX `access_requests_account` ON `access_requests` (`account_id`);--> statement-breakpoint
CREATE INDEX `access_requests_status` ON `access_requests` (`repo_id`,`status`,`created_at`,`account_id`);--> statement-breakpoint
CREATE TABLE `collection_items` (
	`id` text PRIMARY KEY NOT NULL,
	`collection_id` text NOT NULL,
	`type` text NOT NULL,
	`subject_id` text NOT NULL,
	`note` text,
	`position` integer NOT NULL,
	`added_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `collection_items_subject` ON `collection_items` (`collection_id`,`type`,`subject_id`);--> statement-breakpoint
CREATE INDEX `collection_items_what` ON `collection_items` (`type`,`subject_id`);--> statement-breakpoint
CREATE TABLE `collections` (
	`id` text PRIMARY KEY NOT NULL,
	`owner_id` text NOT NULL,
	`title` text NOT NULL,
	`title_key` text NOT NULL,
	`description` text,
	`theme` text NOT NULL,
	`private` integer NOT NULL,
	`position` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `collections_title` ON `collections` (`owner_id`,`title_key`);--> statement-breakpoint
CREATE INDEX `collections_updated` ON `collections` (`updated_at`);--> statement-breakpoint
CREATE TABLE `device_attempts` (
	`account_id` text PRIMARY KEY NOT NULL,
	`attempts` integer NOT NULL,
	`started_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `device_codes` (
	`hash` text PRIMARY KEY NOT NULL,
	`user_hash` text NOT NULL,
	`state` text DEFAULT 'waiting' NOT NULL,
	`account_id` text,
	`token_id` text,
	`name` text,
	`scope` text,
	`interval_s` integer NOT NULL,
	`polled_at` integer,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `device_codes_user_hash_unique` ON `device_codes` (`user_hash`);--> statement-breakpoint
CREATE INDEX `device_codes_expiry` ON `device_codes` (`expires_at`);--> statement-breakpoint
CREATE TABLE `download_clients` (
	`day` integer NOT NULL,
	`repo_id` text NOT NULL,
	`kind` text NOT NULL,
	`client` text NOT NULL,
	PRIMARY KEY(`day`, `repo_id`, `kind`, `client`)
);
--> statement-breakpoint
CREATE INDEX `download_clients_repo` ON `download_clients` (`repo_id`);--> statement-breakpoint
CREATE TABLE `download_days` (
	`repo_id` text NOT NULL,
	`day` integer NOT NULL,
	`fetches` integer DEFAULT 0 NOT NULL,
	`looks` integer DEFAULT 0 NOT NULL,
	`ci` integer DEFAULT 0 NOT NULL,
	PRIMARY KEY(`repo_id`, `day`)
);
--> statement-breakpoint
CREATE TABLE `follows` (
	`follower_id` text NOT NULL,
	`account_id` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`follower_id`, `account_id`)
);
--> statement-breakpoint
CREATE INDEX `follows_account` ON `follows` (`account_id`,`follower_id`);--> statement-breakpoint
CREATE TABLE `git_packs` (
	`key` text PRIMARY KEY NOT NULL,
	`repo_id` text NOT NULL,
	`objects` integer NOT NULL,
	`size` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `git_packs_repo` ON `git_packs` (`repo_id`,`created_at`);--> statement-breakpoint
CREATE TABLE `likes` (
	`repo_id` text NOT NULL,
	`account_id` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`repo_id`, `account_id`)
);
--> statement-breakpoint
CREATE INDEX `likes_repo` ON `likes` (`repo_id`,`created_at`,`account_id`);--> statement-breakpoint
CREATE INDEX `likes_account` ON `likes` (`account_id`,`created_at`,`repo_id`);--> statement-breakpoint
CREATE TABLE `repo_aliases` (
	`owner_id` text NOT NULL,
	`type` text NOT NULL,
	`name_key` text NOT NULL,
	`repo_id` text NOT NULL,
	`moved_at` integer NOT NULL,
	PRIMARY KEY(`owner_id`, `type`, `name_key`)
);
--> statement-breakpoint
CREATE INDEX `repo_aliases_repo` ON `repo_aliases` (`repo_id`);--> statement-breakpoint
CREATE TABLE `repo_grams` (
	`repo_id` text NOT NULL,
	`gram` text NOT NULL,
	PRIMARY KEY(`repo_id`, `gram`)
);
--> statement-breakpoint
CREATE INDEX `repo_grams_gram` ON `repo_grams` (`gram`,`repo_id`);--> statement-breakpoint
CREATE TABLE `repo_index` (
	`repo_id` text PRIMARY KEY NOT NULL,
	`tree` text NOT NULL,
	`version` integer NOT NULL,
	`pipeline_tag` text,
	`library` text,
	`license` text,
	`parameters` integer,
	`used_storage` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `repo_index_pipeline` ON `repo_index` (`pipeline_tag`,`repo_id`);--> statement-breakpoint
CREATE INDEX `repo_index_library` ON `repo_index` (`library`,`repo_id`);--> statement-breakpoint
CREATE TABLE `repo_tags` (
	`repo_id` text NOT NULL,
	`tag` text NOT NULL,
	PRIMARY KEY(`repo_id`, `tag`)
);
--> statement-breakpoint
CREATE INDEX `repo_tags_tag` ON `repo_tags` (`tag`,`repo_id`);--> statement-breakpoint
CREATE TABLE `tag_objects` (
	`repo_id` text NOT NULL,
	`id` text NOT NULL,
	`target` text NOT NULL,
	`content` text NOT NULL,
	PRIMARY KEY(`repo_id`, `id`)
);
--> statement-breakpoint
CREATE TABLE `tree_facts` (
	`repo_id` text NOT NULL,
	`tree` text NOT NULL,
	`version` integer NOT NULL,
	`facts` text NOT NULL,
	PRIMARY KEY(`repo_id`, `tree`)
);
--> statement-breakpoint
CREATE TABLE `webhooks` (
	`id` text PRIMARY KEY NOT NULL,
	`owner_id` text NOT NULL,
	`url` text NOT NULL,
	`secret` text,
	`watched` text NOT NULL,
	`domains` text NOT NULL,
	`disabled` integer DEFAULT false NOT NULL,
	`created_at` integer NOT NULL,
	`seen_seq` integer NOT NULL,
	`failures` integer DEFAULT 0 NOT NULL,
	`due_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `webhooks_owner` ON `webhooks` (`owner_id`);--> statement-breakpoint
CREATE INDEX `webhooks_due` ON `webhooks` (`disabled`,`due_at`);--> statement-breakpoint
DROP INDEX `repos_updated`;--> statement-breakpoint
ALTER TABLE `repos` ADD `gated` text;--> statement-breakpoint
ALTER TABLE `repos` ADD `likes` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `repos` ADD `recent_likes` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `repos` ADD `downloads` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `repos` ADD `downloads_all_time` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `repos` ADD `trending` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `repos` ADD `tally_at` integer;--> statement-breakpoint
ALTER TABLE `repos` ADD `parameters` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `repos` ADD `used_storage` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX `repos_created` ON `repos` (`type`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `repos_likes` ON `repos` (`type`,`likes`,`id`);--> statement-breakpoint
CREATE INDEX `repos_recent_likes` ON `repos` (`type`,`recent_likes`,`id`);--> statement-breakpoint
CREATE INDEX `repos_downloads` ON `repos` (`type`,`downloads`,`id`);--> statement-breakpoint
CREATE INDEX `repos_trending` ON `repos` (`type`,`trending`,`id`);--> statement-breakpoint
CREATE INDEX `repos_parameters` ON `repos` (`type`,`parameters`,`id`);--> statement-breakpoint
CREATE INDEX `repos_used_storage` ON `repos` (`type`,`used_storage`,`id`);--> statement-breakpoint
CREATE INDEX `repos_gated` ON `repos` (`type`,`gated`) WHERE gated is not null;--> statement-breakpoint
CREATE INDEX `repos_tally` ON `repos` (`tally_at`) WHERE tally_at is not null;--> statement-breakpoint
CREATE INDEX `repos_updated` ON `repos` (`type`,`updated_at`,`id`);--> statement-breakpoint
ALTER TABLE `commits` ADD `committed_at` integer;--> statement-breakpoint
ALTER TABLE `commits` ADD `content` text;--> statement-breakpoint
ALTER TABLE `events` ADD `repo_id` text;--> statement-breakpoint
CREATE INDEX `events_news` ON `events` (`scope_id`,`seq`) WHERE decision = 'allow' and type <> 'content.used';--> statement-breakpoint
ALTER TABLE `refs` ADD `tag_object` text;--> statement-breakpoint
ALTER TABLE `tree_entries` ADD `mode` text;--> statement-breakpoint
CREATE INDEX `tree_entries_id` ON `tree_entries` (`repo_id`,`id`);