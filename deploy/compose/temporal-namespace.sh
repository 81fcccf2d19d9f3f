#!/bin/sh
# Makes the namespace TEMPORAL_NAMESPACE at TEMPORAL_ADDRESS. Its histories are the audit trail of every incident: they are kept
# for 90 days, where Temporal's default is 3. Running it again only sets that.
set -eu
: "${TEMPORAL_ADDRESS:?}" "${TEMPORAL_NAMESPACE:?}"
retention=${RETENTION:-90d}

# The port is open a moment before the server answers.
tries=0
until temporal operator cluster health >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ "$tries" -ge 30 ]; then
		echo "no Temporal server answers at $TEMPORAL_ADDRESS" >&2
		exit 1
	fi
	sleep 2
done

if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
	temporal operator namespace update --namespace "$TEMPORAL_NAMESPACE" --retention "$retention"
else
	temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$retention"
fi
