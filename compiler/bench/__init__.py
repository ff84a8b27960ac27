"""What `netc bench` needs of the compiler: the programs beside the policy's own, the flows, and what must become of each flow."""
