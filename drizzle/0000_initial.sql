CREATE TABLE `accounts` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`name` text NOT NULL,
	`name_key` text NOT NULL,
	`fullname` text NOT NULL,
	`email` text,
	`is_admin` integer DEFAULT false NOT NULL,
	`created_at` integer NOT NULL,
	`deleted_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `accounts_name_key_unique` ON `accounts` (`name_key`);--> statement-breakpoint
CREATE TABLE `commits` (
	`repo_id` text NOT NULL,
	`id` text NOT NULL,
	`tree` text NOT NULL,
	`parents` text NOT NULL,
	`author_name` text NOT NULL,
	`author_email` text NOT NULL,
	`authored_at` integer NOT NULL,
	`message` text NOT NULL,
	PRIMARY KEY(`repo_id`, `id`)
);
--> statement-breakpoint
CREATE TABLE `contents` (
	`sha256` text PRIMARY KEY NOT NULL,
	`size` integer NOT NULL,
	`segments` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `evaluations` (
	`id` text PRIMARY KEY NOT NULL,
	`job_id` text NOT NULL,
	`actor_id` text NOT NULL,
	`model_repo_id` text NOT NULL,
	`model_commit_id` text NOT NULL,
	`dataset_repo_id` text NOT NULL,
	`dataset_commit_id` text NOT NULL,
	`split` text NOT NULL,
	`identity` text NOT NULL,
	`record` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `evaluations_job_id_unique` ON `evaluations` (`job_id`);--> statement-breakpoint
CREATE INDEX `evaluations_model` ON `evaluations` (`model_repo_id`,`created_at`);--> statement-breakpoint
CREATE INDEX `evaluations_dataset` ON `evaluations` (`dataset_repo_id`,`created_at`);--> statement-breakpoint
CREATE TABLE `events` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`type` text NOT NULL,
	`source` text NOT NULL,
	`subject` text NOT NULL,
	`time` integer NOT NULL,
	`actor` text NOT NULL,
	`action` text NOT NULL,
	`scope_id` text,
	`purpose` text,
	`decision` text NOT NULL,
	`reason` text,
	`request_id` text NOT NULL,
	`data` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `events_id_unique` ON `events` (`id`);--> statement-breakpoint
CREATE INDEX `events_scope` ON `events` (`scope_id`,`seq`);--> statement-breakpoint
CREATE INDEX `events_actor` ON `events` (`actor`,`seq`);--> statement-breakpoint
CREATE TABLE `guards` (
	`holds` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `job_contents` (
	`job_id` text NOT NULL,
	`sha256` text NOT NULL,
	PRIMARY KEY(`job_id`, `sha256`)
);
--> statement-breakpoint
CREATE TABLE `job_events` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`job_id` text NOT NULL,
	`attempt` integer NOT NULL,
	`source_seq` integer,
	`at` integer NOT NULL,
	`type` text NOT NULL,
	`data` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `job_events_job` ON `job_events` (`job_id`,`seq`);--> statement-breakpoint
CREATE UNIQUE INDEX `job_events_source` ON `job_events` (`job_id`,`attempt`,`source_seq`);--> statement-breakpoint
CREATE TABLE `job_inputs` (
	`job_id` text NOT NULL,
	`name` text NOT NULL,
	`repo_id` text NOT NULL,
	`commit_id` text NOT NULL,
	`path` text NOT NULL,
	`sha256` text NOT NULL,
	`size` integer NOT NULL,
	`purpose` text NOT NULL,
	PRIMARY KEY(`job_id`, `name`)
);
--> statement-breakpoint
CREATE INDEX `job_inputs_repo` ON `job_inputs` (`repo_id`);--> statement-breakpoint
CREATE TABLE `jobs` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`state` text NOT NULL,
	`attempt` integer DEFAULT 1 NOT NULL,
	`driver` integer DEFAULT 1 NOT NULL,
	`actor_id` text NOT NULL,
	`request_key` text,
	`request_sha256` text NOT NULL,
	`request` text NOT NULL,
	`spec` text NOT NULL,
	`output_repo_id` text,
	`output_ref` text,
	`progress` text,
	`reported` text,
	`result` text,
	`error` text,
	`created_at` integer NOT NULL,
	`started_at` integer,
	`updated_at` integer NOT NULL,
	`ended_at` integer,
	`deadline_at` integer NOT NULL,
	`due_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `jobs_request_key_unique` ON `jobs` (`request_key`);--> statement-breakpoint
CREATE INDEX `jobs_actor` ON `jobs` (`actor_id`,`created_at`);--> statement-breakpoint
CREATE INDEX `jobs_due` ON `jobs` (`state`,`due_at`);--> statement-breakpoint
CREATE INDEX `jobs_output` ON `jobs` (`output_repo_id`,`created_at`);--> statement-breakpoint
CREATE TABLE `lineage` (
	`repo_id` text NOT NULL,
	`commit_id` text NOT NULL,
	`ordinal` integer NOT NULL,
	`relation` text NOT NULL,
	`parent_repo_id` text NOT NULL,
	`parent_commit_id` text NOT NULL,
	`files` text NOT NULL,
	PRIMARY KEY(`repo_id`, `commit_id`, `ordinal`)
);
--> statement-breakpoint
CREATE INDEX `lineage_parent` ON `lineage` (`parent_repo_id`);--> statement-breakpoint
CREATE TABLE `memberships` (
	`org_id` text NOT NULL,
	`user_id` text NOT NULL,
	`role` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`org_id`, `user_id`)
);
--> statement-breakpoint
CREATE INDEX `memberships_user` ON `memberships` (`user_id`);--> statement-breakpoint
CREATE TABLE `refs` (
	`repo_id` text NOT NULL,
	`name` text NOT NULL,
	`target` text NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`repo_id`, `name`)
);
--> statement-breakpoint
CREATE TABLE `repo_contents` (
	`repo_id` text NOT NULL,
	`sha256` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`repo_id`, `sha256`)
);
--> statement-breakpoint
CREATE INDEX `repo_contents_sha256` ON `repo_contents` (`sha256`);--> statement-breakpoint
CREATE TABLE `repos` (
	`id` text PRIMARY KEY NOT NULL,
	`type` text NOT NULL,
	`owner_id` text NOT NULL,
	`name` text NOT NULL,
	`name_key` text NOT NULL,
	`private` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `repos_name` ON `repos` (`owner_id`,`type`,`name_key`);--> statement-breakpoint
CREATE INDEX `repos_updated` ON `repos` (`type`,`updated_at`);--> statement-breakpoint
CREATE TABLE `tokens` (
	`id` text PRIMARY KEY NOT NULL,
	`account_id` text NOT NULL,
	`name` text NOT NULL,
	`hash` text NOT NULL,
	`scope` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`last_used_day` integer,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `tokens_hash_unique` ON `tokens` (`hash`);--> statement-breakpoint
CREATE INDEX `tokens_account` ON `tokens` (`account_id`);--> statement-breakpoint
CREATE TABLE `tree_entries` (
	`repo_id` text NOT NULL,
	`tree` text NOT NULL,
	`name` text NOT NULL,
	`kind` text NOT NULL,
	`id` text NOT NULL,
	`sha256` text,
	`size` integer NOT NULL,
	`lfs` integer NOT NULL,
	PRIMARY KEY(`repo_id`, `tree`, `name`)
);
--> statement-breakpoint
CREATE TABLE `upload_parts` (
	`upload_id` text NOT NULL,
	`number` integer NOT NULL,
	`key` text NOT NULL,
	`size` integer NOT NULL,
	`sha256` text NOT NULL,
	PRIMARY KEY(`upload_id`, `number`)
);
--> statement-breakpoint
CREATE TABLE `uploads` (
	`id` text PRIMARY KEY NOT NULL,
	`repo_id` text,
	`job_id` text,
	`sha256` text NOT NULL,
	`size` integer NOT NULL,
	`part_size` integer NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`completed_at` integer
);
--> statement-breakpoint
CREATE INDEX `uploads_expiry` ON `uploads` (`expires_at`);