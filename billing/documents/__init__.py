"""Documents for people and programs: what an issued document says, as PDF, CSV and JSON, in Chinese and English."""
