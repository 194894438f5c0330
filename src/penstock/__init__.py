"""Penstock: Kappa pipelines whose numbers can be proved and repaired."""

from penstock.pipeline import Aggregate, Datasource, Field, Hop, Pipeline, Select, Topic, Tumble

__all__ = ["Aggregate", "Datasource", "Field", "Hop", "Pipeline", "Select", "Topic", "Tumble"]
