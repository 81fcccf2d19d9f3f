// Package compose holds docker-compose.yml against the Compose project's own loader, and runs runbook's own services as the file
// says, as processes on this host. It holds tests only.
package compose
