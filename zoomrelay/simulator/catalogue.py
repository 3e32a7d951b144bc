"""Zoom's event names, as published up to 2026. Pure data.

Collected from Zoom's OpenAPI documents, its TypeScript types and documented samples. Zoom adds names
every month, so nothing may treat a name outside this list as wrong.
"""

from __future__ import annotations

_SUFFIXES: dict[str, str] = {
    "contact_center": """
        asset_created asset_deleted asset_updated business_hours_created business_hours_deleted
        business_hours_updated call_control_make_call_executed closure_created closure_deleted
        closure_updated cx_engagement_end_data_ready engagement_consumer_answered
        engagement_consumer_ended engagement_consumer_notified engagement_consumer_sent_file
        engagement_consumer_sent_message engagement_disposition_added
        engagement_email_transcript_completed engagement_ended engagement_messaging_transcript_completed
        engagement_monitor_ended engagement_monitor_started engagement_note_added engagement_started
        engagement_survey_status engagement_takeover_started engagement_transfer_accepted
        engagement_transfer_canceled engagement_transfer_completed engagement_transfer_initiated
        engagement_transfer_queued engagement_transfer_rejected engagement_transfer_reserved
        engagement_transfer_timeout engagement_upgrade_completed engagement_upgrade_expired
        engagement_upgrade_initiated engagement_user_answered engagement_user_dtmf_sent
        engagement_user_ended engagement_user_hold engagement_user_muted engagement_user_sent_file
        engagement_user_sent_message engagement_user_unhold engagement_user_unmuted
        engagement_wrap_up_ended engagement_wrap_up_started inbox_message_assigned inbox_message_deleted
        inbox_message_downloaded inbox_message_opened inbox_message_received inbox_message_reopened
        inbox_message_resolved legacy_engagement_end_data_ready message_status
        outbound_campaign_dialer_status queue_agent_assigned queue_agent_unassigned queue_created
        queue_inbound_sla_updated queue_operating_hours_updated queue_scheduled_callback_created
        queue_supervisor_assigned queue_supervisor_unassigned recording_completed recording_deleted
        recording_paused recording_permanently_deleted recording_resumed recording_started
        recording_stopped recording_transcript_completed sms_status task_canceled task_completed
        task_created task_deleted task_entered_queue task_exited_queue task_reservation_accepted
        task_reservation_canceled task_reservation_completed task_reservation_created
        task_reservation_rejected task_reservation_timeout task_updated team_created team_deleted
        team_members_assigned team_members_unassigned team_moved team_updated user_created user_deleted
        user_login user_logout user_opt_in user_opt_out user_phone_numbers_assigned
        user_phone_numbers_unassigned user_skills_assigned. user_skills_unassigned user_status_changed
        user_updated voicemail_transcript_completed
    """,
    "phone": """
        account_settings_updated ai_call_summary_changed blind_transfer_initiated call_element_deleted
        call_history_deleted call_log_deleted call_log_permanently_deleted call_qos call_qos_summary
        callee_answered callee_call_element_completed callee_call_history_completed
        callee_call_log_completed callee_ended callee_hold callee_meeting_inviting callee_missed
        callee_mute callee_parked callee_rejected callee_ringing callee_unhold callee_unmute
        caller_call_element_completed caller_call_history_completed caller_call_log_completed
        caller_connected caller_ended caller_hold caller_meeting_inviting caller_mute caller_ringing
        caller_unhold caller_unmute conference_started device_registration emergency_alert fax_log_deleted
        fax_log_permanently_deleted fax_received fax_sent generic_device_provision group_settings_updated
        peering_number_cnam_updated peering_number_emergency_address_updated recording_completed
        recording_completed_for_access_member recording_deleted recording_failed recording_paused
        recording_permanently_deleted recording_resumed recording_started recording_stopped
        recording_transcript_completed route_group_status_changed sms_campaign_number_opt_in
        sms_campaign_number_opt_out sms_etiquette_block sms_etiquette_warn sms_received sms_sent
        sms_sent_failed transfer_call_to_voicemail_initiated transfer_recipient_updated voicemail_deleted
        voicemail_permanently_deleted voicemail_received voicemail_received_for_access_member
        voicemail_transcript_completed warm_transfer_cancelled warm_transfer_completed
        warm_transfer_initiated
    """,
    "meeting": """
        ai_companion_assets_deleted ai_companion_started ai_companion_stopped aic_transcript_completed
        alert breakout_room_sharing_ended breakout_room_sharing_started chat_message_file_downloaded
        chat_message_file_sent chat_message_sent converted_to_webinar created deleted device_tested ended
        invitation_accepted invitation_dispatched invitation_rejected invitation_timeout
        live_streaming_started live_streaming_stopped participant_admitted participant_bind
        participant_data participant_data_summary participant_feedback participant_jbh_joined
        participant_jbh_waiting participant_jbh_waiting_left participant_joined
        participant_joined_breakout_room participant_joined_waiting_room participant_left
        participant_left_breakout_room participant_left_waiting_room participant_phone_callout_accepted
        participant_phone_callout_missed participant_phone_callout_rejected
        participant_phone_callout_ringing participant_put_in_waiting_room participant_qos
        participant_qos_summary participant_role_changed participant_room_system_callout_accepted
        participant_room_system_callout_failed participant_room_system_callout_missed
        participant_room_system_callout_rejected participant_room_system_callout_ringing
        permanently_deleted recovered registration_approved registration_cancelled registration_created
        registration_denied risk_alert rtms_concurrency_limited rtms_concurrency_near_limit
        rtms_interrupted rtms_started rtms_stopped sharing_ended sharing_started started summary_completed
        summary_deleted summary_recovered summary_shared summary_trashed summary_updated updated
    """,
    "team_chat": """
        app_mention bookmark_added bookmark_removed channel_app_added channel_app_removed channel_archived
        channel_invitation_accepted channel_invitation_approval_requested channel_invitation_approved
        channel_invitation_created channel_invitation_declined channel_invitation_rejected
        channel_invitation_removed channel_join_approval_requested channel_join_approved
        channel_join_declined channel_join_requested channel_message_deleted channel_message_posted
        channel_message_updated channel_pin_added channel_pin_removed channel_reaction_added
        channel_reaction_removed channel_unarchived dm_message_deleted dm_message_posted
        dm_message_updated dm_reaction_added dm_reaction_removed emoji_added emoji_removed file_changed
        file_deleted file_downloaded file_shared file_unshared file_uploaded link_shared
        shared_spaces_edit shared_spaces_edited shared_spaces_member_invited shared_spaces_member_left
        shared_spaces_member_removed starred unstarred
    """,
    "session": """
        alert ended live_streaming_started live_streaming_stopped recording_completed recording_deleted
        recording_paused recording_recovered recording_resumed recording_started recording_stopped
        recording_summary_completed recording_transcript_completed recording_transcript_failed
        recording_trashed rtms_interrupted rtms_started rtms_stopped sharing_ended sharing_started started
        stream_ingestion_connected stream_ingestion_disconnected stream_ingestion_started
        stream_ingestion_stopped stream_ingestion_unbind user_data user_data_summary user_joined user_left
        user_phone_callout_accepted user_phone_callout_canceled user_phone_callout_missed
        user_phone_callout_rejected user_phone_callout_ringing user_qos user_qos_summary
        user_room_system_callout_accepted user_room_system_callout_failed user_room_system_callout_missed
        user_room_system_callout_rejected user_room_system_callout_ringing
    """,
    "node": """
        mc_stat mc_stat_alert mc_zone_stat_alert nfs_alert rc_stat rc_stat_alert server_bandwidth_alert
        server_confirmed server_cpu_alert server_deleted server_disk_alert server_memory_alert
        server_offline server_online server_rebooted server_registered server_shutdown server_stat
        server_update_available server_update_failed server_update_started server_update_success
        service_abnormal_status service_cpu_alert service_deleted service_memory_alert service_started
        service_stat service_stopped service_update_available service_update_failed service_update_started
        service_update_success zhm_stat zhm_stat_alert zhm_zone_stat_alert zone_added zone_deleted
    """,
    "webinar": """
        alert chat_message_file_downloaded chat_message_file_sent chat_message_sent converted_to_meeting
        created deleted ended participant_bind participant_data participant_data_summary
        participant_feedback participant_joined participant_left participant_qos participant_qos_summary
        participant_role_changed permanently_deleted recovered registration_approved
        registration_cancelled registration_created registration_denied rtms_interrupted rtms_started
        rtms_stopped sharing_ended sharing_started started updated
    """,
    "zoom_events": """
        event_cancelled event_duplicated event_published event_updated exhibitor_created exhibitor_deleted
        exhibitor_updated session_created session_deleted session_ended session_updated speaker_created
        speaker_deleted speaker_updated ticket_created ticket_deleted ticket_type_created
        ticket_type_deleted ticket_type_updated ticket_updated vod_registration_created
    """,
    "recording": """
        archive_files_completed batch_deleted batch_recovered batch_trashed cloud_storage_usage_updated
        completed deleted paused recovered registration_approved registration_created registration_denied
        renamed resumed started stopped transcript_completed trashed
    """,
    "user": """
        activated created deactivated deleted disassociated invitation_accepted personal_notes_updated
        presence_status_updated settings_updated signed_in signed_out tsp_created tsp_deleted tsp_updated
        updated
    """,
    "zoomroom": """
        alert checked_in checked_out created delayed_alert deleted digital_signage_app_ended
        digital_signage_play_started location_created location_deleted location_updated sensor_data
        thirdparty_meeting_attempted updated
    """,
    "workspace": """
        created deleted pre_check_in_questionnaire_response_created reservation_checked_in
        reservation_checked_out reservation_created reservation_deleted
        reservation_questionnaire_response_created reservation_questionnaire_response_updated
        reservation_updated updated user_assigned user_unassigned
    """,
    "calendar": """
        acl_create acl_delete acl_update calendarlist_create calendarlist_delete calendarlist_update
        event_create event_delete event_update setting_create setting_update
    """,
    "group": """
        admin_added admin_deleted created deleted lock_settings_updated member_added member_deleted
        members_deleted settings_updated updated
    """,
    "whiteboard": """
        archive_available created deleted file_added opened share_setting_updated shared
        sharing_updated
    """,
    "": """
        app_deauthorized bot_installed bot_notification interactive_message_actions
        interactive_message_editable interactive_message_fields_editable interactive_message_select
    """,
    "account": """
        created disassociated lock_settings_updated settings_updated updated vanity_url_approved
        vanity_url_rejected
    """,
    "chat_channel": "created deleted member_invited member_joined member_left member_removed updated",
    "revenue_accelerator": """
        conversation_analysis_completed deal_conversation_associations_changed playlist_add_moment
        playlist_create playlist_delete playlist_remove_moment post_comment_completed
    """,
    "visitor_management": "checked_in checked_out invitation_created invitation_deleted invitation_updated",
    "chat_message": "deleted replied sent updated",
    "cobrowse": "session_ended session_started session_user_joined session_user_left",
    "video_management": "channel_published channel_unpublished channel_video_added channel_video_removed",
    "information_barriers": "policy_created policy_deleted policy_updated",
    "number_management": "peering_number_cnam_updated peering_number_emergency_address_updated",
    "scheduler": "scheduled_event_canceled scheduled_event_created",
    "app": "authorization_request_created",
    "clinical_notes": "note_created",
    "endpoint": "url_validation",
    "mail": "history_event",
    "quality_management": "interaction_analysis_completed",
    "rtms": "concurrency_near_limit",
}
"""Prefix to the rest of each name. Seven names have no prefix; one is documented with a trailing dot."""

FAMILIES: dict[str, tuple[str, ...]] = {
    prefix: tuple(f"{prefix}.{suffix}" if prefix else suffix for suffix in suffixes.split())
    for prefix, suffixes in _SUFFIXES.items()
}
"""Whole names by their prefix; the empty prefix holds the names without a dot."""

NAMES: tuple[str, ...] = tuple(name for names in FAMILIES.values() for name in names)
"""All of them, without repetition."""
