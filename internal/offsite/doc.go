// Package offsite keeps copies of whole backups in a bucket, away from the host that made them: in S3 and what speaks its
// protocol, Google Cloud Storage, Azure Blob Storage, or a directory on another disk. The catalog lists and fetches them, the
// backup's activity makes them. It is no storage for single files, and it knows nothing of what makes a backup good.
//
// In the bucket, a backup is the directory TARGET/NAME with the same files as on disk, its manifest included, so that any tool that
// copies the directory back has a backup again. Beside it stands TARGET/NAME.manifest.json, the manifest once more: it is written
// last and deleted first, so a copy without it is not whole. One listing of TARGET/ therefore finds every whole copy.
package offsite
