"""The embedded lab: network namespaces joined by multi-queue veth, a traffic generator, the demonstration. Standing alone: no policy here."""
