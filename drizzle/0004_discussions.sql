CREATE TABLE `discussion_events` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`repo_id` text NOT NULL,
	`number` integer NOT NULL,
	`type` text NOT NULL,
	`author_id` text NOT NULL,
	`created_at` integer NOT NULL,
	`data` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `discussion_events_id_unique` ON `discussion_events` (`id`);--> statement-breakpoint
CREATE INDEX `discussion_events_discussion` ON `discussion_events` (`repo_id`,`number`,`seq`);--> statement-breakpoint
CREATE TABLE `discussions` (
	`repo_id` text NOT NULL,
	`number` integer NOT NULL,
	`title` text NOT NULL,
	`status` text NOT NULL,
	`base` text,
	`merge_commit` text,
	`author_id` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`repo_id`, `number`)
);
--> statement-breakpoint
CREATE INDEX `discussions_author` ON `discussions` (`author_id`,`created_at`);--> statement-breakpoint
INSERT INTO `discussions` (`repo_id`, `number`, `title`, `status`, `base`, `author_id`, `created_at`)
	SELECT `repo_id`, `number`, `title`, `status`, `base`, `author_id`, `created_at` FROM `pull_requests`;--> statement-breakpoint
INSERT INTO `discussion_events` (`id`, `repo_id`, `number`, `type`, `author_id`, `created_at`, `data`)
	SELECT lower(hex(randomblob(12))), `repo_id`, `number`, 'comment', `author_id`, `created_at`,
		json_object('text', `description`, 'edits', json('[]'), 'hidden', json('false')) FROM `pull_requests`;--> statement-breakpoint
DROP TABLE `pull_requests`;
