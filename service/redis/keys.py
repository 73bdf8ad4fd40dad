"""Every key of the service in Redis, and which of them a transition is handed.

`{prefix}` is a hash tag: all keys lie in one slot of a cluster, so that one script may touch several of them. A script
uses no key that it was not handed (KEYS): clusters and managed servers want to know them before it runs.
"""

from typing import get_args

from models.jobs import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)


class Keys:
    """The keys below one prefix (`VISCPM_REDIS_PREFIX`). Names are these methods', with colons."""

    def __init__(self, prefix: str) -> None:
        self.tag = f"{{{prefix}}}"  # names the slot
        self._base = base = f"{self.tag}:"
        self.accounting = base + "accounting"  # hash: {accepted,done,refused,failed,cancelled}:{kind}
        self.restarts = base + "restarts"  # hash: workers started again, by kind
        self.cancelled = base + "cancelled"  # stream: ids of running jobs that were ended
        self.pending_moderation = base + "pending_moderation"  # zset: generated jobs, by the expiry of their lease
        self.finalizers = base + "finalizers"  # hash: the API process that holds that lease, by job id
        self.apis = base + "apis"  # zset: API processes, by the time until which they count as alive
        self.run_times = base + "run_times"  # hash: what a job takes lately, in ms, by kind
        self.webhooks = base + "webhooks"  # zset: ended jobs that somebody is to be told of, by when
        self.workers = base + "workers"  # zset: workers, by the time of their last heartbeat
        self.heartbeats = base + "heartbeats"  # hash: what each worker said last
        self.conversations = base + "conversations"  # zset: tenant:id of each conversation, by its last use
        self.conversation_sizes = base + "conversation_sizes"  # hash: bytes, by tenant:id
        self.conversation_bytes = base + "conversation_bytes"  # their sum
        self.expired_conversations = base + "expired_conversations"  # zset: the last ones that expired or made room
        self.api_keys = base + "api_keys"  # hash: API keys by their id (service/access)
        self.vision_cache = self._cache("vision-cache")
        self.verdict_cache = self._cache("verdict-cache")
        self.linked_pictures = self._cache("linked-pictures")
        self.link_key = base + "link-key"  # string: what signs the addresses of pictures
        self.files = base + "files"  # zset: tenant:id of each file, by its expiry
        self.file_bytes = base + "file_bytes"  # hash: what the files take, by tenant, and `*` of all
        self.batches = base + "batches"  # zset: tenant:id of each unfinished batch, by the expiry of the lease on it
        self._job_shared = (
            self.accounting,
            self.cancelled,
            self.pending_moderation,
            self.finalizers,
            self.apis,
            self.run_times,
            self.webhooks,
            *(self.slots(kind) for kind in KINDS),
            *(self.jobs(kind) for kind in KINDS),
            *(self.jobs(f"{kind}:batch") for kind in KINDS if kind != "safety"),
            base + "waiting",  # zset: jobs held back while tenants share a queue, by queue, tenant and age (shares.lua)
            base + "held",  # hash: what those are, by job id
            base + "shares",  # hash: the turns of tenants
            base + "tenant_slots",  # zset: jobs of tenants with API keys that hold a slot, by kind and tenant
        )

    def slots(self, kind: Kind) -> str:
        """zset: jobs that hold a slot, by the slot's expiry."""
        return f"{self._base}slots:{kind}"

    def jobs(self, queue: str) -> str:
        """stream with the group `workers`: queued and running jobs of a kind, or of its batches (`{kind}:batch`)."""
        return f"{self._base}jobs:{queue}"

    def tenant_jobs(self, tenant: str) -> str:
        """zset: a tenant's jobs, by the time at which they began."""
        return f"{self._base}tenant_jobs:{tenant}"

    def dead(self, kind: Kind) -> str:
        """stream: jobs that were given up."""
        return f"{self._base}dead:{kind}"

    def model(self, kind: Kind) -> str:
        """string: what the last worker of this kind served."""
        return f"{self._base}model:{kind}"

    def job(self, job_id: str) -> str:
        """hash: the job's record."""
        return f"{self._base}job:{job_id}"

    def pixels(self, job_id: str) -> str:
        """string: the job's input picture."""
        return f"{self._base}pixels:{job_id}"

    def idempotency(self, tenant: str, key_sha256: str) -> str:
        """hash: the job that answers a tenant's Idempotency-Key."""
        return f"{self._base}idempotency:{tenant}:{key_sha256}"

    def usage(self, key_id: str, day: str) -> str:
        """hash: what an API key has used on a day."""
        return f"{self._base}usage:{key_id}:{day}"

    def of_key(self, key_id: str, day: str) -> tuple[str, str, str]:
        """Of an API key: hash of what it used in this minute, zset of its jobs, and `usage`."""
        return f"{self._base}key_minute:{key_id}", f"{self._base}key_jobs:{key_id}", self.usage(key_id, day)

    def inbox(self, process_id: str) -> str:
        """stream: events of all jobs that an API process waits for."""
        return f"{self._base}inbox:{process_id}"

    def latest_painting(self, tenant: str) -> str:
        """string: id of the last job that came by A1111's routes."""
        return f"{self._base}latest-painting:{tenant}"

    def tenant_files(self, tenant: str) -> str:
        """zset: a tenant's files, by the time at which they were made."""
        return f"{self._base}tenant_files:{tenant}"

    def of_file(self, tenant: str, file_id: str) -> tuple[str, str, str, str, str]:
        """What transitions of a file are handed (files.lua): the books, then the file's hash and list of lines."""
        key = f"{self._base}file:{tenant}:{file_id}"
        return self.files, self.file_bytes, self.tenant_files(tenant), key, f"{key}:lines"

    def tenant_batches(self, tenant: str) -> str:
        """zset: a tenant's batches, by the time at which they were made."""
        return f"{self._base}tenant_batches:{tenant}"

    def of_batch(self, tenant: str, batch_id: str) -> tuple[str, str, str]:
        """What transitions of a batch are handed first (batches.lua): hash of it, string with a bit for each line."""
        key = f"{self._base}batch:{tenant}:{batch_id}"
        return self.batches, key, f"{key}:done"

    def conversation_pixels(self, member: str) -> str:
        return self.conversation(member)[2]

    def tenant_conversations(self, tenant: str) -> str:
        """zset: ids of a tenant's conversations, by their last use."""
        return f"{self._base}tenant_conversations:{tenant}"

    def conversation(self, member: str) -> tuple[str, str, str, str, str, str]:
        """Of the conversation `tenant:id`: hash of its metadata, list of turns, string of pixels, and who answers.

        Then zset of the jobs that answered lately, by their beginning, and the tenant's list of conversations.
        """
        key, tenant = f"{self._base}conversation:{member}", member.rpartition(":")[0]
        own = key, f"{key}:turns", f"{key}:pixels", f"{key}:busy", f"{key}:jobs"
        return *own, self.tenant_conversations(tenant)

    @property
    def conversation_books(self) -> tuple[str, str, str, str]:
        return (
            self.conversations,
            self.conversation_sizes,
            self.conversation_bytes,
            self.expired_conversations,
        )

    def of_job(self, job_id: str) -> tuple[str, ...]:
        """What every transition of a job is handed first (transitions.lua)."""
        return (*self._job_shared, self.job(job_id), f"{self._base}events:{job_id}", self.pixels(job_id))

    def of_jobs(self) -> tuple[str, ...]:
        """The same without a job: of transitions over all of them."""
        return self._job_shared

    def _cache(self, name: str) -> tuple[str, str, str]:
        """hash of the values, zset of their last use, sum of their bytes."""
        return f"{self._base}{name}", f"{self._base}{name}:used", f"{self._base}{name}:bytes"
